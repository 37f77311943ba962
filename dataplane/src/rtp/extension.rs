//! RTP header extensions in the one- and two-byte forms (RFC 8285).

use super::RtpError;

/// Profile value of the one-byte form.
pub const ONE_BYTE_PROFILE: u16 = 0xbede;
/// Profile value of the two-byte form, its `appbits` zero.
pub const TWO_BYTE_PROFILE: u16 = 0x1000;

/// One header extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extension<'a> {
    /// The negotiated id; 1..=14 fits the one-byte form.
    pub id: u8,
    /// Its value; 1..=16 bytes fit the one-byte form, 0..=255 the two-byte form.
    pub data: &'a [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    OneByte,
    TwoByte,
}

/// Iterates over the elements of an extension block; ends at the first element that does not fit.
#[derive(Debug, Clone)]
pub struct Extensions<'a> {
    form: Form,
    rest: &'a [u8],
}

impl<'a> Extensions<'a> {
    /// Starts at the body of a block; a profile other than RFC 8285's yields nothing.
    pub fn new(profile: u16, body: &'a [u8]) -> Self {
        match profile {
            ONE_BYTE_PROFILE => Self { form: Form::OneByte, rest: body },
            p if p & 0xfff0 == TWO_BYTE_PROFILE => Self { form: Form::TwoByte, rest: body },
            _ => Self { form: Form::OneByte, rest: &[] },
        }
    }
}

impl<'a> Iterator for Extensions<'a> {
    type Item = Extension<'a>;

    fn next(&mut self) -> Option<Extension<'a>> {
        loop {
            let (&first, rest) = self.rest.split_first()?;
            if first == 0 {
                self.rest = rest;
                continue;
            }
            let (id, len, rest) = match self.form {
                Form::OneByte => (first >> 4, usize::from(first & 0x0f) + 1, rest),
                Form::TwoByte => match rest.split_first() {
                    Some((&len, rest)) => (first, usize::from(len), rest),
                    None => (0, 0, rest),
                },
            };
            // Ids 0 and 15 end the one-byte form (RFC 8285 section 4.2).
            let stop = id == 0 || (self.form == Form::OneByte && id == 15);
            if stop || rest.len() < len {
                self.rest = &[];
                return None;
            }
            let (data, rest) = rest.split_at(len);
            self.rest = rest;
            return Some(Extension { id, data });
        }
    }
}

/// The value of an extension within a written header of an RTP packet, for patching.
pub fn find_mut(header: &mut [u8], id: u8) -> Option<&mut [u8]> {
    let start = 12 + 4 * usize::from(header.first()? & 0x0f);
    let profile = super::u16_at(header, start)?;
    let mut elements = Extensions::new(profile, header.get(start + 4..)?);
    let before = |rest: &[u8]| header.len() - rest.len();
    let (mut found, mut end) = (0, 0);
    while let Some(element) = elements.next() {
        if element.id == id {
            (found, end) = (element.data.len(), before(elements.rest));
            break;
        }
    }
    header.get_mut(end.checked_sub(found)?..end).filter(|data| !data.is_empty())
}

/// Bytes that [`write()`] needs for these extensions: zero for none, else a multiple of four.
pub fn encoded_len(extensions: &[Extension<'_>]) -> usize {
    if extensions.is_empty() {
        return 0;
    }
    let element = if needs_two_byte(extensions) { 2 } else { 1 };
    let body: usize = extensions.iter().map(|e| element + e.data.len()).sum();
    4 + body.next_multiple_of(4)
}

fn needs_two_byte(extensions: &[Extension<'_>]) -> bool {
    extensions.iter().any(|e| e.id > 14 || e.data.is_empty() || e.data.len() > 16)
}

/// Writes the whole block (profile, length, elements, zero padding) and returns its length; writes nothing for none.
/// The one-byte form is used unless an element does not fit it.
pub fn write(extensions: &[Extension<'_>], out: &mut [u8]) -> Result<usize, RtpError> {
    let len = encoded_len(extensions);
    if len == 0 {
        return Ok(0);
    }
    let have = out.len();
    let out = out.get_mut(..len).ok_or(RtpError::OutputTooSmall { need: len, have })?;
    let words = u16::try_from(len / 4 - 1).map_err(|_| RtpError::Extension(0))?;
    let two_byte = needs_two_byte(extensions);
    let profile = if two_byte { TWO_BYTE_PROFILE } else { ONE_BYTE_PROFILE };
    out[..2].copy_from_slice(&profile.to_be_bytes());
    out[2..4].copy_from_slice(&words.to_be_bytes());
    let mut at = 4;
    for e in extensions {
        let size = u8::try_from(e.data.len()).map_err(|_| RtpError::Extension(e.id))?;
        if e.id == 0 {
            return Err(RtpError::Extension(0));
        }
        if two_byte {
            out[at] = e.id;
            out[at + 1] = size;
            at += 2;
        } else {
            out[at] = e.id << 4 | (size - 1);
            at += 1;
        }
        out[at..at + e.data.len()].copy_from_slice(e.data);
        at += e.data.len();
    }
    out[at..].fill(0);
    Ok(len)
}
