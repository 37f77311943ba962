//! What becomes of a key of another program's file.

/// What becomes of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum Use {
    /// It is this key of ours.
    Key(&'static str),
    /// It is put together with others; see `layers` and `jicofo`.
    Special,
    /// It changes nothing here, for this reason.
    Ignored(&'static str),
    /// It changes nothing when it is one of these values; another one cannot be passed over, for this reason.
    Only(&'static [&'static str], &'static str),
}
