//! What a configuration may cost.

/// Deepest nesting of objects and lists.
pub(super) const MAX_DEPTH: usize = 64;
/// Largest file, bytes.
pub(super) const MAX_FILE: u64 = 1 << 20;
/// Includes within includes.
pub(super) const MAX_INCLUDE_DEPTH: usize = 16;
/// Files of one configuration.
pub(super) const MAX_FILES: usize = 100;
/// Values that may be made while substitutions are filled in: a few lines that refer to each other can make billions.
pub(super) const MAX_VALUES: usize = 200_000;
/// Bytes of text that may be made in the same way.
pub(super) const MAX_TEXT: usize = 16 << 20;
