//! Reads the outer layers of a protobuf message field by field, without decoding their content.

use super::DecodeError;

/// A field's value, decoded only as far as needed here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WireValue<'a> {
    Varint(u64),
    /// A number of four or eight bytes.
    Fixed,
    /// A string, bytes, or a message.
    Bytes(&'a [u8]),
}

/// The fields of a message, as (number, value).
#[derive(Debug, Clone)]
pub(super) struct WireFields<'a>(pub(super) &'a [u8]);

impl<'a> WireFields<'a> {
    fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(DecodeError::Truncated)?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::Truncated)
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8], DecodeError> {
        let len = usize::try_from(len).map_err(|_| DecodeError::Truncated)?;
        let (taken, rest) = self.0.split_at_checked(len).ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn field(&mut self) -> Result<(u32, WireValue<'a>), DecodeError> {
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).map_err(|_| DecodeError::Truncated)?;
        let value = match key & 7 {
            0 => WireValue::Varint(self.varint()?),
            1 => {
                self.take(8)?;
                WireValue::Fixed
            }
            2 => {
                let len = self.varint()?;
                WireValue::Bytes(self.take(len)?)
            }
            5 => {
                self.take(4)?;
                WireValue::Fixed
            }
            _ => return Err(DecodeError::WireType(number)),
        };
        Ok((number, value))
    }

    /// The values of a field that holds messages or strings.
    pub(super) fn all(self, number: u32) -> impl Iterator<Item = Result<&'a [u8], DecodeError>> {
        self.filter_map(move |field| match field {
            Ok((found, WireValue::Bytes(bytes))) if found == number => Some(Ok(bytes)),
            Ok((found, _)) if found == number => Some(Err(DecodeError::WireType(number))),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        })
    }
}

impl<'a> Iterator for WireFields<'a> {
    type Item = Result<(u32, WireValue<'a>), DecodeError>;

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

    #[test]
    fn fields_of_every_wire_type() {
        let message = [
            0x08, 0x96, 0x01, // 1: 150
            0x12, 0x02, b'h', b'i', // 2: "hi"
            0x1d, 1, 2, 3, 4, // 3: four bytes
            0x21, 1, 2, 3, 4, 5, 6, 7, 8, // 4: eight bytes
        ];
        let fields: Vec<_> = WireFields(&message).map(Result::unwrap).collect();
        let expected = [
            (1, WireValue::Varint(150)),
            (2, WireValue::Bytes(b"hi")),
            (3, WireValue::Fixed),
            (4, WireValue::Fixed),
        ];
        assert_eq!(fields, expected);
        // Truncated anywhere except between two fields.
        for len in (0..message.len()).filter(|len| ![0, 3, 7, 12].contains(len)) {
            assert!(WireFields(&message[..len]).any(|field| field.is_err()), "{len}");
        }
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        for bad in [&[0x0b][..], &[0x12, 0xff, 0xff, 0xff, 0xff, 0x0f], &[0xff; 11], &[0x12, 0x05, 0]] {
            assert!(WireFields(bad).any(|field| field.is_err()), "{bad:?}");
        }
    }
}
