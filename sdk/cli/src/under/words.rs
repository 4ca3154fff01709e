//! Commands that are given as one argument: split into words as a shell does, by no shell.
//!
//! Owns what is refused because only a shell would understand it, so that nobody runs something else than was meant.

use std::ffi::OsString;

/// The words of a command that was given as one argument.
#[derive(Clone, Debug)]
pub(crate) struct Words(pub(crate) Vec<OsString>);

/// Splits a command into words, with quotes and backslashes as in a shell; nothing is expanded.
pub(crate) fn words(text: &str) -> Result<Words, String> {
    let words = shlex::split(text).ok_or("a quote or a backslash is not closed")?;
    if words.is_empty() {
        return Err("a program is needed".into());
    }
    if let Some(meant) = for_a_shell(text, &words) {
        return Err(format!(
            "no shell reads this, and `{meant}` would be an argument as it stands: write sh -c '…' around it, or quote it where that is meant"
        ));
    }
    Ok(Words(words.into_iter().map(OsString::from).collect()))
}

/// The first word without quotes or backslashes that a shell would not have passed on.
fn for_a_shell<'a>(text: &'a str, words: &[String]) -> Option<&'a str> {
    const OPERATORS: [&str; 12] = [
        ";", "&", "&&", "|", "||", "<", "<<", ">", ">>", "2>", "2>&1", "&>",
    ];
    let expanded = |word: &str| {
        let named = |letter: char| letter.is_ascii_alphabetic() || "_{(".contains(letter);
        word.split('$')
            .skip(1)
            .any(|after| after.starts_with(named))
    };
    text.split_whitespace().find(|word| {
        let meant = OPERATORS.contains(word) || word.ends_with(';') || expanded(word);
        // A word that stands in the text as it stands among the words was not quoted.
        meant && words.iter().any(|split| split == word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_in_one_argument_is_split_as_a_shell_does() {
        let split = words(r#"mail -s "lost it" ops\ team '$HOME'"#).expect("it is closed");
        assert_eq!(split.0, ["mail", "-s", "lost it", "ops team", "$HOME"]);
        assert!(words("echo 'open").is_err());
        assert!(words("  ").is_err());
    }

    #[test]
    fn what_only_a_shell_would_understand_is_refused_unless_it_is_quoted() {
        for (text, meant) in [
            ("echo a; env", "a;"),
            ("env | grep X", "|"),
            ("make && true", "&&"),
            ("date > /tmp/now", ">"),
            ("systemctl reload $UNIT", "$UNIT"),
            ("echo a${B}", "a${B}"),
        ] {
            let told = words(text).expect_err("it is refused");
            assert!(told.contains(&format!("and `{meant}` would be")), "{told}");
            assert!(told.contains("sh -c"), "{told}");
        }
        for text in [
            "sh -c 'env | grep X; date > $HOME/now'",
            r"find . -exec rm {} \;",
            "find . -exec rm {} ';'",
            "echo 5$ '$HOME' a|b",
        ] {
            assert!(words(text).is_ok(), "{text}");
        }
    }
}
