//! The wire format of protocol buffers, as far as reading needs it.
//!
//! Source: <https://protobuf.dev/programming-guides/encoding/>

/// What is wrong with a message, as a reader of its file should hear it.
pub(crate) type Damage = &'static str;

/// The value of one field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Varint(u64),
    /// A string, bytes or a message.
    Bytes(&'a [u8]),
    Fixed32([u8; 4]),
    Fixed64([u8; 8]),
}

impl<'a> Value<'a> {
    pub(crate) fn bytes(self) -> Result<&'a [u8], Damage> {
        if let Self::Bytes(bytes) = self { Ok(bytes) } else { Err("a number where a text or a message should be") }
    }

    pub(crate) fn text(self) -> Result<&'a str, Damage> {
        std::str::from_utf8(self.bytes()?).map_err(|_| "a text that is not UTF-8")
    }

    /// An int32, which is sign-extended to 64 bits when it is written.
    pub(crate) fn int(self) -> Result<i32, Damage> {
        if let Self::Varint(value) = self { Ok(value as i32) } else { Err("no whole number where one should be") }
    }

    pub(crate) fn float(self) -> Result<f32, Damage> {
        if let Self::Fixed32(bits) = self { Ok(f32::from_le_bytes(bits)) } else { Err("no float where one should be") }
    }
}

/// The fields of a message, with their numbers, in the order of the file; ends after an error.
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Self(message)
    }

    fn take(&mut self, count: u64) -> Result<&'a [u8], Damage> {
        let count = usize::try_from(count).ok().filter(|&count| count <= self.0.len()).ok_or("it ends too early")?;
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Damage> {
        self.take(N as u64)?.try_into().map_err(|_| "it ends too early")
    }

    fn varint(&mut self) -> Result<u64, Damage> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("a number of more than 64 bits")
    }

    fn field(&mut self) -> Result<(u64, Value<'a>), Damage> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(self.array()?),
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Fixed32(self.array()?),
            _ => return Err("an unknown kind of field"),
        };
        Ok((key >> 3, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(message: &[u8]) -> Result<Vec<(u64, Value<'_>)>, Damage> {
        Fields::new(message).collect()
    }

    #[test]
    fn every_kind_of_field_is_read() {
        let message =
            [&[0x08, 0x96, 0x01, 0x12, 2][..], b"ab", &[0x1d, 0, 0, 128, 63, 0x21, 1, 0, 0, 0, 0, 0, 0, 0]].concat();
        let fields = read(&message).unwrap();
        assert_eq!(fields[0], (1, Value::Varint(150)));
        assert_eq!(fields[1].1.text(), Ok("ab"));
        assert_eq!(fields[2].1.float(), Ok(1.0));
        assert_eq!(fields[3], (4, Value::Fixed64([1, 0, 0, 0, 0, 0, 0, 0])));
        let minus_one = [&[0x08][..], &[0xff; 9], &[0x01]].concat();
        assert_eq!(read(&minus_one).unwrap()[0].1.int(), Ok(-1));
    }

    #[test]
    fn damage_is_named() {
        for message in
            [&[0x08][..], &[0x12, 3, b'a'], &[0x1d, 0], &[0x0b], &[0xff; 11], &[0x12, 0xff, 0xff, 0xff, 0xff, 0x7f]]
        {
            assert!(read(message).is_err(), "{message:?}");
        }
        assert!(
            Value::Varint(1).text().is_err()
                && Value::Bytes(&[0xff]).text().is_err()
                && Value::Bytes(&[]).int().is_err()
        );
    }
}
