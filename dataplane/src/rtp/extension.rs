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

/// What a block of extensions takes, counted as they are chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BlockSize {
    count: usize,
    data: usize,
    two_byte: bool,
}

impl BlockSize {
    /// Counts an extension with `len` bytes of value.
    #[inline]
    pub fn add(&mut self, id: u8, len: usize) {
        self.count += 1;
        self.data += len;
        self.two_byte |= id > 14 || len == 0 || len > 16;
    }

    /// Of a list.
    pub fn of(extensions: &[Extension<'_>]) -> Self {
        let mut size = Self::default();
        extensions.iter().for_each(|e| size.add(e.id, e.data.len()));
        size
    }

    /// Bytes of the block: zero for none, else a multiple of four.
    #[inline]
    pub fn bytes(self) -> usize {
        match self.count {
            0 => 0,
            count => 4 + (count * if self.two_byte { 2 } else { 1 } + self.data).next_multiple_of(4),
        }
    }
}

/// Bytes that [`write()`] needs for these extensions: zero for none, else a multiple of four.
pub fn encoded_len(extensions: &[Extension<'_>]) -> usize {
    BlockSize::of(extensions).bytes()
}

/// Writes the whole block (profile, length, elements, zero padding) and returns its length; writes nothing for none.
/// The one-byte form is used unless an element does not fit it.
pub fn write(extensions: &[Extension<'_>], out: &mut [u8]) -> Result<usize, RtpError> {
    write_sized(BlockSize::of(extensions), extensions.iter().copied(), out)
}

/// The same for extensions that were counted before.
#[inline]
pub fn write_sized<'a>(
    size: BlockSize,
    extensions: impl Iterator<Item = Extension<'a>>,
    out: &mut [u8],
) -> Result<usize, RtpError> {
    let len = size.bytes();
    if len == 0 {
        return Ok(0);
    }
    let have = out.len();
    let too_small = RtpError::OutputTooSmall { need: len, have };
    let (head, mut rest) = out.get_mut(..len).and_then(<[u8]>::split_first_chunk_mut::<4>).ok_or(too_small)?;
    let words = u16::try_from(len / 4 - 1).map_err(|_| RtpError::Extension(0))?;
    let profile = if size.two_byte { TWO_BYTE_PROFILE } else { ONE_BYTE_PROFILE };
    let ([p0, p1], [w0, w1]) = (profile.to_be_bytes(), words.to_be_bytes());
    *head = [p0, p1, w0, w1];
    for e in extensions {
        let value = u8::try_from(e.data.len()).map_err(|_| RtpError::Extension(e.id))?;
        if e.id == 0 {
            return Err(RtpError::Extension(0));
        }
        let element = if size.two_byte { 2 } else { 1 };
        let (at, after) = rest.split_at_mut_checked(element + e.data.len()).ok_or(RtpError::Extension(e.id))?;
        match at {
            [id, len, data @ ..] if size.two_byte => {
                (*id, *len) = (e.id, value);
                data.copy_from_slice(e.data);
            }
            [both, data @ ..] => {
                *both = e.id << 4 | (value.wrapping_sub(1) & 0x0f);
                data.copy_from_slice(e.data);
            }
            [] => {}
        }
        rest = after;
    }
    rest.fill(0);
    Ok(len)
}
