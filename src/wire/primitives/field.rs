//! How each Rust type stands on the wire.

use super::declare::{Shape, Structure};
use super::{DecodeError, DecodeFault, Decoder, EncodeError, Encoder, Records};
use crate::types::TopicId;
use crate::wire::ErrorCode;
use bytes::Bytes;
use uuid::Uuid;

/// A type that a declared field can have.
pub trait Field: Sized {
    /// The fewest bytes a value takes on the wire.
    const WIRE_SIZE_MIN: usize;
    /// Reads a value.
    fn read(from: &mut Decoder, shape: Shape) -> Result<Self, DecodeError>;
    /// Writes a value.
    fn write(&self, to: &mut Encoder, shape: Shape) -> Result<(), EncodeError>;
}

/// A type whose encoding has a null. `Option<T>` is then a field; whether null is allowed is the version's affair.
pub trait Nullable: Sized {
    /// The fewest bytes a value, or null, takes on the wire.
    const WIRE_SIZE_MIN: usize = 1;
    /// Reads a value or null.
    fn read_nullable(from: &mut Decoder, shape: Shape) -> Result<Option<Self>, DecodeError>;
    /// Writes a value or null.
    fn write_nullable(value: Option<&Self>, to: &mut Encoder, shape: Shape) -> Result<(), EncodeError>;
}

impl<T: Nullable> Field for Option<T> {
    const WIRE_SIZE_MIN: usize = <T as Nullable>::WIRE_SIZE_MIN;

    fn read(from: &mut Decoder, shape: Shape) -> Result<Option<T>, DecodeError> {
        match T::read_nullable(from, shape)? {
            None if !shape.nullable => Err(from.fault(DecodeFault::UnexpectedNull)),
            value => Ok(value),
        }
    }

    fn write(&self, to: &mut Encoder, shape: Shape) -> Result<(), EncodeError> {
        if self.is_none() && !shape.nullable {
            return Err(EncodeError::NullNotInVersion { version: shape.version });
        }
        T::write_nullable(self.as_ref(), to, shape)
    }
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl Field for $number {
            const WIRE_SIZE_MIN: usize = size_of::<$number>();

            fn read(from: &mut Decoder, _: Shape) -> Result<$number, DecodeError> {
                from.array().map(<$number>::from_be_bytes)
            }

            fn write(&self, to: &mut Encoder, _: Shape) -> Result<(), EncodeError> {
                to.put(&self.to_be_bytes());
                Ok(())
            }
        }
    )*};
}
numbers!(i8, i16, u16, i32, u32, i64, f64);

impl Field for bool {
    const WIRE_SIZE_MIN: usize = 1;

    fn read(from: &mut Decoder, _: Shape) -> Result<bool, DecodeError> {
        from.array().map(|[byte]: [u8; 1]| byte != 0)
    }

    fn write(&self, to: &mut Encoder, _: Shape) -> Result<(), EncodeError> {
        to.put(&[u8::from(*self)]);
        Ok(())
    }
}

impl Field for Uuid {
    const WIRE_SIZE_MIN: usize = 16;

    fn read(from: &mut Decoder, _: Shape) -> Result<Uuid, DecodeError> {
        from.array().map(Uuid::from_bytes)
    }

    fn write(&self, to: &mut Encoder, _: Shape) -> Result<(), EncodeError> {
        to.uuid(*self);
        Ok(())
    }
}

impl Field for TopicId {
    const WIRE_SIZE_MIN: usize = 16;

    fn read(from: &mut Decoder, shape: Shape) -> Result<TopicId, DecodeError> {
        Uuid::read(from, shape).map(TopicId)
    }

    fn write(&self, to: &mut Encoder, shape: Shape) -> Result<(), EncodeError> {
        self.0.write(to, shape)
    }
}

impl Field for ErrorCode {
    const WIRE_SIZE_MIN: usize = 2;

    fn read(from: &mut Decoder, shape: Shape) -> Result<ErrorCode, DecodeError> {
        i16::read(from, shape).map(ErrorCode::from)
    }

    fn write(&self, to: &mut Encoder, shape: Shape) -> Result<(), EncodeError> {
        to.note(*self, 1);
        i16::from(*self).write(to, shape)
    }
}

/// Values that have a null but here must not be one.
macro_rules! required {
    ($([$($generic:tt)*] $type:ty),* $(,)?) => {$(
        impl<$($generic)*> Field for $type {
            const WIRE_SIZE_MIN: usize = 1;

            fn read(from: &mut Decoder, shape: Shape) -> Result<$type, DecodeError> {
                match Nullable::read_nullable(from, shape)? {
                    Some(value) => Ok(value),
                    None => Err(from.fault(DecodeFault::UnexpectedNull)),
                }
            }

            fn write(&self, to: &mut Encoder, shape: Shape) -> Result<(), EncodeError> {
                Nullable::write_nullable(Some(self), to, shape)
            }
        }
    )*};
}
required!([] String, [] Bytes, [] Records, [T: Field] Vec<T>);

impl Nullable for String {
    fn read_nullable(from: &mut Decoder, shape: Shape) -> Result<Option<String>, DecodeError> {
        let length = from.length(shape.flexible, false)?;
        match length {
            Some(length) if length > TEXT_LENGTH_MAX => {
                let length = i64::try_from(length).unwrap_or(i64::MAX);
                Err(from.fault(DecodeFault::InvalidLength(length)))
            }
            length => length.map(|length| from.text(length)).transpose(),
        }
    }

    fn write_nullable(value: Option<&String>, to: &mut Encoder, shape: Shape) -> Result<(), EncodeError> {
        // A compact length could say more, but no text longer than this may exist: the plain versions, which carry the
        // same values, cannot say it.
        if let Some(length) = value.map(String::len).filter(|length| *length > TEXT_LENGTH_MAX) {
            return Err(EncodeError::TooLong { length, max: TEXT_LENGTH_MAX });
        }
        to.put_length(value.map(String::len), shape.flexible, false)?;
        to.put(value.map_or(&[], |text| text.as_bytes()));
        Ok(())
    }
}

/// The longest text, in bytes: what the plain encoding's 16-bit length can say.
const TEXT_LENGTH_MAX: usize = i16::MAX as usize;

impl Nullable for Bytes {
    fn read_nullable(from: &mut Decoder, shape: Shape) -> Result<Option<Bytes>, DecodeError> {
        let length = from.length(shape.flexible, true)?;
        length.map(|length| from.bytes(length)).transpose()
    }

    fn write_nullable(value: Option<&Bytes>, to: &mut Encoder, shape: Shape) -> Result<(), EncodeError> {
        to.put_length(value.map(Bytes::len), shape.flexible, true)?;
        if let Some(bytes) = value {
            to.put_shared(bytes);
        }
        Ok(())
    }
}

impl Nullable for Records {
    fn read_nullable(from: &mut Decoder, shape: Shape) -> Result<Option<Records>, DecodeError> {
        Ok(Bytes::read_nullable(from, shape)?.map(Records::from))
    }

    fn write_nullable(value: Option<&Records>, to: &mut Encoder, shape: Shape) -> Result<(), EncodeError> {
        to.put_length(value.map(Records::len), shape.flexible, true)?;
        if let Some(records) = value {
            records.chunks().for_each(|chunk| to.put_shared(chunk));
        }
        Ok(())
    }
}

impl<T: Field> Nullable for Vec<T> {
    fn read_nullable(from: &mut Decoder, shape: Shape) -> Result<Option<Vec<T>>, DecodeError> {
        let Some(count) = from.length(shape.flexible, true)? else { return Ok(None) };
        let count = from.elements(count, T::WIRE_SIZE_MIN, size_of::<T>())?;
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            elements.push(T::read(from, shape)?);
        }
        Ok(Some(elements))
    }

    fn write_nullable(value: Option<&Vec<T>>, to: &mut Encoder, shape: Shape) -> Result<(), EncodeError> {
        to.put_length(value.map(Vec::len), shape.flexible, true)?;
        value.into_iter().flatten().try_for_each(|element| element.write(to, shape))
    }
}

/// A nullable structure is led by one byte, −1 for null (as `Cursor` in DescribeTopicPartitions), in those versions in
/// which it is nullable.
impl<T: Structure> Nullable for T {
    fn read_nullable(from: &mut Decoder, shape: Shape) -> Result<Option<T>, DecodeError> {
        if shape.nullable && i8::read(from, shape)? < 0 {
            return Ok(None);
        }
        T::read_fields(from, shape).map(Some)
    }

    fn write_nullable(value: Option<&T>, to: &mut Encoder, shape: Shape) -> Result<(), EncodeError> {
        if shape.nullable {
            to.put(&[if value.is_some() { 1 } else { 0xff }]);
        }
        value.map_or(Ok(()), |value| value.write_fields(to, shape))
    }
}

impl<T: Structure> Field for T {
    const WIRE_SIZE_MIN: usize = 1;

    fn read(from: &mut Decoder, shape: Shape) -> Result<T, DecodeError> {
        T::read_fields(from, shape)
    }

    fn write(&self, to: &mut Encoder, shape: Shape) -> Result<(), EncodeError> {
        self.write_fields(to, shape)
    }
}
