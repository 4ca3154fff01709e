//! The settings: their types, their limits, and what is in force where a key is absent.

use serde::{Deserialize, Serialize};
use tenure::View;

/// A value of a key. A field that is unknown is refused: it is a slip of the pen.
#[derive(Debug)]
pub(crate) enum Setting {
    Greeting(Greeting),
    Limits(Limits),
}

/// `greeting`
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Greeting {
    pub(crate) text: String,
}

/// `limits`
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limits {
    pub(crate) requests_per_second: u32,
}

impl Setting {
    /// Reads the value of a key by what its name is behind the prefix.
    pub(crate) fn read(name: &str, value: &[u8]) -> Result<Setting, String> {
        let failed = |error: serde_json::Error| error.to_string();
        match name {
            "greeting" => {
                let greeting: Greeting = serde_json::from_slice(value).map_err(failed)?;
                if greeting.text.is_empty() {
                    return Err("text is empty; it is what clients are greeted with".into());
                }
                Ok(Setting::Greeting(greeting))
            }
            "limits" => {
                let limits: Limits = serde_json::from_slice(value).map_err(failed)?;
                let given = limits.requests_per_second;
                if !(1..=10_000).contains(&given) {
                    return Err(format!("requests_per_second is {given}; it is 1 to 10000"));
                }
                Ok(Setting::Limits(limits))
            }
            _ => Err("there is no such setting; there are `greeting` and `limits`".into()),
        }
    }
}

/// What is in force.
#[derive(Debug, Eq, PartialEq, Serialize)]
pub(crate) struct Running {
    pub(crate) greeting: Greeting,
    pub(crate) limits: Limits,
}

impl Default for Running {
    fn default() -> Running {
        Running {
            greeting: Greeting {
                text: "hello".into(),
            },
            limits: Limits {
                requests_per_second: 100,
            },
        }
    }
}

impl Running {
    /// The last good value of each setting, or its default.
    pub(crate) fn of(view: &View<Setting>) -> Running {
        let mut running = Running::default();
        for setting in view.values.values() {
            match setting.as_ref() {
                Setting::Greeting(greeting) => running.greeting = greeting.clone(),
                Setting::Limits(limits) => running.limits = limits.clone(),
            }
        }
        running
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_values_are_refused_with_what_would_be_right() {
        let check = |name: &str, value: &str, said: &str| {
            let refused = Setting::read(name, value.as_bytes());
            let refused = refused.expect_err(value);
            assert!(refused.contains(said), "{value}: {refused}");
        };
        check("greeting", "{", "EOF");
        check("greeting", r#"{"text":""}"#, "text is empty");
        check(
            "greeting",
            r#"{"txt":"x"}"#,
            "unknown field `txt`, expected `text`",
        );
        check("limits", r#"{"requests_per_second":-1}"#, "-1");
        check(
            "limits",
            r#"{"requests_per_second":0}"#,
            "requests_per_second is 0; it is 1 to 10000",
        );
        check("limits", r#"{"requests_per_second":10001}"#, "is 10001");
        check("limit", "{}", "there are `greeting` and `limits`");
    }
}
