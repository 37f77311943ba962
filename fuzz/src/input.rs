//! Reads decisions out of a fuzzer's bytes, front to back, so that inputs can also be written by hand.

use arbitrary::Unstructured;

/// What is left of an input. Past its end everything is zero.
pub struct Input<'a>(Unstructured<'a>);

impl<'a> Input<'a> {
    /// Starts at the first byte.
    pub fn new(data: &'a [u8]) -> Self {
        Self(Unstructured::new(data))
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One byte.
    pub fn u8(&mut self) -> u8 {
        self.0.arbitrary().unwrap_or_default()
    }

    /// Two bytes, little-endian.
    pub fn u16(&mut self) -> u16 {
        self.0.arbitrary().unwrap_or_default()
    }

    /// Four bytes, little-endian.
    pub fn u32(&mut self) -> u32 {
        self.0.arbitrary().unwrap_or_default()
    }

    /// Eight bytes, little-endian.
    pub fn u64(&mut self) -> u64 {
        self.0.arbitrary().unwrap_or_default()
    }

    /// One byte's lowest bit.
    pub fn flag(&mut self) -> bool {
        self.u8() & 1 == 1
    }

    /// One of a list, by a byte.
    pub fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[usize::from(self.u8()) % list.len()]
    }

    /// Bytes behind their length of one byte; fewer where the input ends.
    pub fn bytes(&mut self) -> &'a [u8] {
        let len = usize::from(self.u8());
        self.take(len)
    }

    /// Bytes behind their length of two bytes, at most `most`; fewer where the input ends.
    pub fn long_bytes(&mut self, most: usize) -> &'a [u8] {
        let len = usize::from(self.u16()).min(most);
        self.take(len)
    }

    /// All the rest.
    pub fn rest(self) -> &'a [u8] {
        self.0.take_rest()
    }

    fn take(&mut self, len: usize) -> &'a [u8] {
        let len = len.min(self.0.len());
        self.0.bytes(len).unwrap_or_default()
    }
}
