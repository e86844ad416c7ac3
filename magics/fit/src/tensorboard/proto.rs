//! Protocol buffers and records as TensorBoard reads them: the few messages that are written, field by field, without a
//! crate for all of the format.
//!
//! Sources: the wire format (protobuf.dev/programming-guides/encoding), the definitions in TensorBoard's
//! `compat/proto`, and the record's layout in TensorFlow's `record_writer.h`.

/// A message that is being put together. Values that are the default are left out, as protobuf 3 does, unless the field is
/// one of several to choose from.
#[derive(Debug, Default, Clone)]
pub(crate) struct Message(pub Vec<u8>);

impl Message {
    fn key(&mut self, field: u32, wire: u32) {
        self.varint(u64::from(field << 3 | wire));
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// A whole number or a name of an enum.
    pub fn int(mut self, field: u32, value: i64) -> Message {
        if value != 0 {
            self.key(field, 0);
            // Negative numbers take all ten bytes.
            self.varint(value as u64);
        }
        self
    }

    /// A double, zero or not: this is for fields that are chosen from several, or that always stand.
    pub fn double(mut self, field: u32, value: f64) -> Message {
        self.key(field, 1);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// A double, left out when it is 0.
    pub fn double_unless_zero(self, field: u32, value: f64) -> Message {
        // Of the two zeros, only the positive one is the default.
        if value.to_bits() == 0 {
            self
        } else {
            self.double(field, value)
        }
    }

    /// A float, zero or not.
    pub fn float(mut self, field: u32, value: f32) -> Message {
        self.key(field, 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// A truth, true or not.
    pub fn bool(mut self, field: u32, value: bool) -> Message {
        self.key(field, 0);
        self.varint(u64::from(value));
        self
    }

    /// Bytes, empty or not.
    pub fn bytes(mut self, field: u32, value: &[u8]) -> Message {
        self.key(field, 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }

    /// A text, left out when it is empty.
    pub fn text(self, field: u32, value: &str) -> Message {
        if value.is_empty() {
            self
        } else {
            self.bytes(field, value.as_bytes())
        }
    }

    /// A message within this one, empty or not.
    pub fn message(self, field: u32, value: &Message) -> Message {
        self.bytes(field, &value.0)
    }

    /// A list of whole numbers, zeros too, each on its own.
    pub fn ints(mut self, field: u32, values: &[i64]) -> Message {
        for value in values {
            self.key(field, 0);
            self.varint(*value as u64);
        }
        self
    }

    /// A list of doubles in one piece.
    pub fn doubles(mut self, field: u32, values: &[f64]) -> Message {
        if !values.is_empty() {
            self.key(field, 2);
            self.varint(8 * values.len() as u64);
            self.0.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        self
    }
}

/// Adds a record to a file's bytes: length, its checksum, the data, their checksum.
pub(super) fn record(file: &mut Vec<u8>, data: &[u8]) {
    let length = (data.len() as u64).to_le_bytes();
    file.extend(length);
    file.extend(masked(&length).to_le_bytes());
    file.extend(data);
    file.extend(masked(data).to_le_bytes());
}

/// The checksum as records have it: turned and shifted, so that a checksum of data with a checksum is none of the same.
pub(super) fn masked(data: &[u8]) -> u32 {
    crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli, reflected 0x82f63b78).
fn crc32c(data: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0u32; 256];
        let mut at = 0;
        while at < 256 {
            let mut value = at as u32;
            let mut bit = 0;
            while bit < 8 {
                value = if value & 1 == 1 {
                    value >> 1 ^ 0x82f6_3b78
                } else {
                    value >> 1
                };
                bit += 1;
            }
            table[at] = value;
            at += 1;
        }
        table
    };
    !data
        .iter()
        .fold(!0u32, |crc, byte| TABLE[(crc as u8 ^ byte) as usize] ^ crc >> 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_standard() {
        // RFC 3720, section B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(&(0..32).collect::<Vec<u8>>()), 0x46dd_794e);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn oracle_18_a_record_is_tensorboards() {
        let golden: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/oracles/tensorboard.json")).unwrap();
        let mut file = Vec::new();
        record(&mut file, b"one two three");
        let hex: String = file.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, golden["record"].as_str().unwrap());
    }

    #[test]
    fn numbers_take_as_many_bytes_as_they_need() {
        let bytes = |value| Message::default().int(1, value).0;
        assert_eq!(bytes(0), Vec::<u8>::new());
        assert_eq!(bytes(150), [8, 0x96, 1]);
        assert_eq!(bytes(-1).len(), 11);
    }
}
