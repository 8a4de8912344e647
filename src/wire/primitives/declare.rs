//! Declaring messages: `messages!` turns a list of fields with their versions into a structure that reads and writes
//! every version of itself.
//!
//! ```text
//! messages! {
//!     /// What it asks.
//!     request InitProducerIdRequest: InitProducerId -> InitProducerIdResponse {
//!         transactional_id: Option<String> => since(0).nullable(0),
//!         producer_id: i64 = -1 => since(3),
//!     }
//! }
//! ```
//! Each field has a type, its default where that is not the type's own, and a [`FieldSpec`].

use super::{DecodeError, Decoder, EncodeError, Encoder, Field};

/// Which form of the encoding is meant: the message's version and what follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The message's version.
    pub version: i16,
    /// Compact lengths and tagged fields (KIP-482).
    pub flexible: bool,
    /// Whether the field being read or written may be null.
    pub nullable: bool,
}

impl Shape {
    /// The shape of one field.
    #[must_use]
    pub const fn of(self, spec: &FieldSpec) -> Shape {
        Shape { nullable: spec.nullable_in(self.version), ..self }
    }
}

/// The versions in which a field exists, is nullable, is tagged, and what happens where it cannot be carried.
#[derive(Clone, Copy, Debug)]
pub struct FieldSpec {
    first: i16,
    last: i16,
    nullable_from: Option<i16>,
    tag: Option<u32>,
    ignorable: bool,
}

/// A field that exists from version `first` on.
#[must_use]
pub const fn since(first: i16) -> FieldSpec {
    between(first, i16::MAX)
}

/// A field that exists from version `first` to `last`, both included.
#[must_use]
pub const fn between(first: i16, last: i16) -> FieldSpec {
    FieldSpec { first, last, nullable_from: None, tag: None, ignorable: false }
}

impl FieldSpec {
    /// Null is allowed from version `first` on.
    #[must_use]
    pub const fn nullable(self, first: i16) -> FieldSpec {
        FieldSpec { nullable_from: Some(first), ..self }
    }

    /// The field stands among the tagged fields (KIP-482) and is left out where it has its default.
    #[must_use]
    pub const fn tagged(self, tag: u32) -> FieldSpec {
        FieldSpec { tag: Some(tag), ..self }
    }

    /// A version that cannot carry the field drops it instead of refusing the message.
    #[must_use]
    pub const fn ignorable(self) -> FieldSpec {
        FieldSpec { ignorable: true, ..self }
    }

    /// Whether a version has the field at all.
    #[must_use]
    pub const fn carried_in(&self, version: i16) -> bool {
        self.first <= version && version <= self.last
    }

    /// Whether the field stands in the plain body.
    #[must_use]
    pub const fn in_body(&self, version: i16) -> bool {
        self.carried_in(version) && self.tag.is_none()
    }

    /// Whether the field may be null.
    #[must_use]
    pub const fn nullable_in(&self, version: i16) -> bool {
        matches!(self.nullable_from, Some(first) if version >= first)
    }

    /// Whether this is the field of a tag.
    #[must_use]
    pub const fn has_tag(&self, tag: u32, version: i16) -> bool {
        matches!(self.tag, Some(own) if own == tag) && self.carried_in(version)
    }

    /// The field's tag, in a version that has it.
    #[must_use]
    pub const fn tag_in(&self, version: i16) -> Option<u32> {
        if self.carried_in(version) { self.tag } else { None }
    }

    /// Whether a version that cannot carry the field drops it.
    #[must_use]
    pub const fn is_ignorable(&self) -> bool {
        self.ignorable
    }

    /// Whether a value other than the default must not be dropped where the version has no place for it.
    #[must_use]
    pub const fn must_be_carried(&self, version: i16) -> bool {
        !self.ignorable && !self.carried_in(version)
    }
}

/// A declared structure: a message or a part of one.
pub trait Structure: Sized {
    /// Reads the fields of a version.
    fn read_fields(from: &mut Decoder, shape: Shape) -> Result<Self, DecodeError>;
    /// Writes the fields of a version.
    fn write_fields(&self, to: &mut Encoder, shape: Shape) -> Result<(), EncodeError>;
}

/// Writes one tagged field: tag, size, value.
pub fn write_tagged(to: &mut Encoder, tag: u32, value: &impl Field, shape: Shape) -> Result<(), EncodeError> {
    let mut encoded = Encoder::new();
    value.write(&mut encoded, shape)?;
    to.unsigned_varint(tag);
    let (length, max) = (encoded.len(), i32::MAX as usize);
    to.unsigned_varint(u32::try_from(length).map_err(|_| EncodeError::TooLong { length, max })?);
    to.append(encoded);
    Ok(())
}

/// The default of a declared field.
macro_rules! field_default {
    () => {
        Default::default()
    };
    ($default:expr) => {
        $default
    };
}

/// Declares messages and their parts; see the module.
macro_rules! messages {
    () => {};
    (
        $(#[$doc:meta])* request $name:ident: $api:ident -> $response:ident { $($fields:tt)* } $($rest:tt)*
    ) => {
        $crate::wire::primitives::declare::structure! { $(#[$doc])* $name { $($fields)* } }
        impl $crate::wire::frame::Message for $name {
            const NAME: &'static str = stringify!($name);
            const API: $crate::wire::ApiKey = $crate::wire::ApiKey::$api;
        }
        impl $crate::wire::frame::Request for $name {
            type Response = $response;
        }
        $crate::wire::primitives::declare::messages! { $($rest)* }
    };
    (
        $(#[$doc:meta])* response $name:ident: $api:ident { $($fields:tt)* } $($rest:tt)*
    ) => {
        $crate::wire::primitives::declare::structure! { $(#[$doc])* $name { $($fields)* } }
        impl $crate::wire::frame::Message for $name {
            const NAME: &'static str = stringify!($name);
            const API: $crate::wire::ApiKey = $crate::wire::ApiKey::$api;
        }
        impl $crate::wire::frame::Response for $name {}
        $crate::wire::primitives::declare::messages! { $($rest)* }
    };
    (
        $(#[$doc:meta])* part $name:ident { $($fields:tt)* } $($rest:tt)*
    ) => {
        $crate::wire::primitives::declare::structure! { $(#[$doc])* $name { $($fields)* } }
        $crate::wire::primitives::declare::messages! { $($rest)* }
    };
}

/// Declares one structure: the type, its default, and how each version is read and written.
macro_rules! structure {
    ($(#[$doc:meta])* $name:ident {
        $( $(#[$field_doc:meta])* $field:ident : $type:ty $(= $default:expr)? => $spec:expr ),* $(,)?
    }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $( $(#[$field_doc])* pub $field: $type, )*
        }

        impl Default for $name {
            fn default() -> $name {
                $name { $( $field: $crate::wire::primitives::declare::field_default!($($default)?), )* }
            }
        }

        impl $crate::wire::primitives::Structure for $name {
            fn read_fields(
                from: &mut $crate::wire::primitives::Decoder,
                shape: $crate::wire::primitives::Shape,
            ) -> Result<$name, $crate::wire::primitives::DecodeError> {
                #[allow(unused_mut, reason = "a structure may have no field")]
                let mut value = $name::default();
                $({
                    const SPEC: $crate::wire::primitives::FieldSpec = $spec;
                    if SPEC.in_body(shape.version) {
                        value.$field = $crate::wire::primitives::Field::read(from, shape.of(&SPEC))
                            .map_err(|error| error.in_field(stringify!($name), stringify!($field)))?;
                    }
                })*
                if shape.flexible {
                    from.tagged_fields(|_from, _tag| {
                        $({
                            const SPEC: $crate::wire::primitives::FieldSpec = $spec;
                            if SPEC.has_tag(_tag, shape.version) {
                                value.$field = $crate::wire::primitives::Field::read(_from, shape.of(&SPEC))
                                    .map_err(|error| error.in_field(stringify!($name), stringify!($field)))?;
                                return Ok(true);
                            }
                        })*
                        Ok(false)
                    })?;
                }
                Ok(value)
            }

            fn write_fields(
                &self,
                to: &mut $crate::wire::primitives::Encoder,
                shape: $crate::wire::primitives::Shape,
            ) -> Result<(), $crate::wire::primitives::EncodeError> {
                let version = shape.version;
                #[allow(unused_mut, reason = "most structures have no tagged field")]
                let (mut tags, mut next_tag) = (0_u32, None::<u32>);
                $({
                    const SPEC: $crate::wire::primitives::FieldSpec = $spec;
                    if SPEC.in_body(version) {
                        $crate::wire::primitives::Field::write(&self.$field, to, shape.of(&SPEC))?;
                    } else {
                        let default: $type =
                            $crate::wire::primitives::declare::field_default!($($default)?);
                        let set = self.$field != default;
                        if set && SPEC.must_be_carried(version) {
                            return Err($crate::wire::primitives::EncodeError::FieldNotInVersion {
                                structure: stringify!($name),
                                field: stringify!($field),
                                version,
                            });
                        }
                        if let (true, Some(tag)) = (set, SPEC.tag_in(version)) {
                            tags += 1;
                            next_tag = Some(next_tag.map_or(tag, |next| next.min(tag)));
                        }
                    }
                })*
                if !shape.flexible {
                    return Ok(());
                }
                to.unsigned_varint(tags);
                // In the order of the tags, which need not be that of the fields. They may be far apart.
                while let Some(_tag) = next_tag.take() {
                    $({
                        const SPEC: $crate::wire::primitives::FieldSpec = $spec;
                        let default: $type =
                            $crate::wire::primitives::declare::field_default!($($default)?);
                        match SPEC.tag_in(version) {
                            Some(tag) if tag == _tag => {
                                $crate::wire::primitives::declare::write_tagged(
                                    to, tag, &self.$field, shape.of(&SPEC),
                                )?;
                            }
                            Some(tag) if tag > _tag && self.$field != default => {
                                next_tag = Some(next_tag.map_or(tag, |next| next.min(tag)));
                            }
                            _ => {}
                        }
                    })*
                }
                Ok(())
            }
        }

        #[cfg(test)]
        impl $crate::wire::tests::Declared for $name {
            fn generate(
                random: &mut $crate::wire::tests::Random,
                shape: $crate::wire::primitives::Shape,
            ) -> $name {
                $name {
                    $($field: {
                        const SPEC: $crate::wire::primitives::FieldSpec = $spec;
                        if SPEC.carried_in(shape.version) {
                            $crate::wire::tests::Declared::generate(random, shape.of(&SPEC))
                        } else {
                            $crate::wire::primitives::declare::field_default!($($default)?)
                        }
                    },)*
                }
            }

            fn heap_size(&self) -> usize {
                0 $(+ $crate::wire::tests::Declared::heap_size(&self.$field))*
            }

            fn layout() -> $crate::wire::tests::Layout {
                $crate::wire::tests::Layout::Structure(vec![
                    $($crate::wire::tests::LayoutField {
                        name: stringify!($field),
                        layout: <$type as $crate::wire::tests::Declared>::layout(),
                        default: concat!("", $(stringify!($default))?),
                        spec: $spec,
                    },)*
                ])
            }
        }
    };
}

pub(in crate::wire) use {field_default, messages, structure};
