//! Metadata as it is sent: labels by name.

use std::collections::BTreeMap;
use std::fmt::Formatter;

use serde::de::{Deserializer, Error, MapAccess, Visitor};

/// Reads metadata in which no name comes twice: of two values one would be lost in silence.
pub(crate) fn distinct<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    deserializer.deserialize_map(Labels)
}

struct Labels;

impl<'de> Visitor<'de> for Labels {
    type Value = BTreeMap<String, String>;

    fn expecting(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        let mut labels = BTreeMap::new();
        while let Some(name) = fields.next_key::<String>()? {
            if labels.contains_key(&name) {
                return Err(A::Error::custom(format!("duplicate field `{name}`")));
            }
            labels.insert(name, fields.next_value()?);
        }
        Ok(labels)
    }
}
