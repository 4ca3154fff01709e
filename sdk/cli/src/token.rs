//! `tenure token`: by what identities prove who they are.
//!
//! Owns where a new secret goes: to a file for its owner alone, or to stdout; never into a message, and never by an argument.
//! A token whose secret could not be written is revoked: nobody would have it.

use std::fs;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use tenure::NewToken;
use tenure::api::Token as Shown;

use crate::duration;
use crate::exit::{Exit, Trouble};
use crate::fresh::Fresh;
use crate::output::{self, Cell, Output, Table, note};
use crate::settings::Session;

/// Creates, shows and revokes tokens, by which identities prove who they are
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Token {
    #[command(subcommand)]
    deed: Deed,
}

const EXAMPLES: &str = "\
Examples:
  tenure token create ci --expires 90d --out ci.token
  tenure token create ci | ssh host 'umask 077 && cat > /etc/ci/tenure.token'
  tenure token list --identity ci
  tenure token revoke 3f9c2a7b5d1e8046

To change a token without a pause, put another in its place, give programs the time to read it, and revoke the old one. \
Programs that use Tenure's clients read their token file again within a second, and when a token is refused:
  tenure token create ci --expires 90d --out ci.token --force        says the id of the token that was there
  tenure token revoke ID";

#[derive(clap::Subcommand, Debug)]
enum Deed {
    Create(Create),
    List(List),
    Revoke(Revoke),
}

impl Token {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit, Trouble> {
        match self.deed {
            Deed::Create(create) => create.run(session).await,
            Deed::List(list) => list.run(session).await,
            Deed::Revoke(revoke) => revoke.run(session).await,
        }
    }
}

/// Creates a token, which nobody can show again
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  tenure token create ci --expires 90d --out ci.token
  tenure token create ci --expires 90d --out ci.token --force    in place of the token that is there
  tenure token create ci > ci.token
The file is for its owner alone (600), and appears when all of it is on the disk. Where it cannot be written the token is revoked.")]
struct Create {
    /// Whom it proves
    identity: String,
    /// How long it lasts: 1s to 3650d [default: until it is revoked]
    #[arg(long, value_name = "TIME", value_parser = duration::token)]
    expires: Option<Duration>,
    /// Write it to a file, which is for you alone [default: to stdout]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Replace the file if it is there; the token that it had lasts on
    #[arg(long, requires = "out")]
    force: bool,
}

impl Create {
    async fn run(self, session: &Session) -> Result<Exit, Trouble> {
        // What cannot be written is known before there is a token.
        let fresh = self.out.as_deref();
        let fresh = fresh
            .map(|out| Fresh::beside(out, self.force))
            .transpose()?;
        let before = self.out.as_deref().and_then(id_in);
        let token = session.client.create_token(&self.identity, self.expires);
        let token = token.await?;
        let given = match fresh {
            Some(fresh) => written(fresh, &token),
            None => printed(session.output, &token),
        };
        if let Err(trouble) = given {
            return Err(undone(session, &token, trouble).await);
        }
        if let Some(out) = &self.out {
            tell(session.output, &token, out)?;
        }
        if let Some(before) = before {
            tell_of(session, &before).await;
        }
        Ok(Exit::DONE)
    }
}

/// Says of the token that was there before that it is good still, where it is.
async fn tell_of(session: &Session, before: &str) {
    let all = session.client.tokens().limit(1);
    // The one behind the greatest id that is less.
    let less = u64::from_str_radix(before, 16).ok();
    let less = less.and_then(|id| id.checked_sub(1));
    let found = match less {
        Some(less) => all.start_after(format!("{less:016x}")).await,
        None => all.await,
    };
    // Where that is not known, it is looked at.
    let is_gone = found.is_ok_and(|found| found.all.first().is_none_or(|token| token.id != before));
    if !is_gone {
        note(format!(
            "the token {before}, which was there before, is good still: `tenure token revoke {before}` once nobody uses it"
        ));
    }
}

/// The id of the token that a file has.
fn id_in(file: &Path) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let (id, _) = text.trim().split_once('.')?;
    let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let is_id = id.len() == 16 && id.bytes().all(is_digit);
    is_id.then(|| id.to_owned())
}

fn written(mut fresh: Fresh, token: &NewToken) -> Result<(), Trouble> {
    let line = format!("{}\n", token.expose());
    let written = fresh.file.write_all(line.as_bytes());
    written.map_err(|error| fresh.failed(error))?;
    fresh.give_name()
}

fn printed(output: Output, token: &NewToken) -> Result<(), Trouble> {
    match output {
        Output::Json => {
            let mut shown = shown(token);
            shown["token"] = token.expose().into();
            output::json(&shown)?;
        }
        Output::Table => output::text(&format!("{}\n", token.expose()))?,
    }
    if std::io::stdout().is_terminal() {
        note(
            "that is shown once, and this terminal remembers it: --out FILE writes it to a file for you alone",
        );
    }
    Ok(())
}

/// Without its secret.
fn shown(token: &NewToken) -> serde_json::Value {
    let expires_in_ms = token.expires_in();
    let expires_in_ms =
        expires_in_ms.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    json!({"id": token.id(), "identity": token.identity(), "expires_in_ms": expires_in_ms})
}

fn tell(output: Output, token: &NewToken, out: &Path) -> Result<(), Trouble> {
    match output {
        Output::Json => {
            let mut shown = shown(token);
            shown["file"] = out.display().to_string().into();
            output::json(&shown)?;
        }
        Output::Table => {
            let lasts = match token.expires_in() {
                Some(time) => format!("for {}", duration::shown(time)),
                None => "until it is revoked".to_owned(),
            };
            output::text(&format!(
                "{}  proves {} {lasts}, and is in {}\n",
                token.id(),
                output::shown(token.identity()),
                out.display()
            ))?;
        }
    }
    Ok(())
}

/// Revokes what nobody has the secret of.
async fn undone(session: &Session, token: &NewToken, trouble: Trouble) -> Trouble {
    let told = match session.client.revoke_token(token.id()).await {
        Ok(()) => {
            return trouble.saying_also("the token is revoked again").undone();
        }
        Err(error) => format!(
            "the token {} could not be revoked again: {error}",
            token.id()
        ),
    };
    let next = format!("`tenure token revoke {}`", token.id());
    trouble.saying_also(&told).afterwards().then(next)
}

/// Shows the tokens, without their secrets
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  tenure token list
  tenure token list --identity ci
  tenure token list -o json | jq -r '.tokens[] | select(.expires_in_ms == null) | .id'
One that has expired is forgotten when another is created.")]
struct List {
    /// Only those of this identity
    #[arg(long, value_name = "NAME")]
    identity: Option<String>,
    /// No more than so many, those of others included
    #[arg(long, value_name = "NUMBER", default_value_t = 100_000)]
    limit: usize,
}

impl List {
    async fn run(self, session: &Session) -> Result<Exit, Trouble> {
        let mut found = session.client.tokens().limit(self.limit).await?;
        if let Some(identity) = &self.identity {
            found.all.retain(|token| token.identity == *identity);
        }
        if session.output == Output::Json {
            output::found("tokens", &found)?;
            return Ok(Exit::DONE);
        }
        let mut table = Table::new(&["TOKEN", "IDENTITY", "LASTS"]);
        found.all.iter().for_each(|token| table.row(row(token)));
        output::listed(&table, &found, "there are no tokens")?;
        Ok(Exit::DONE)
    }
}

fn row(token: &Shown) -> Vec<Cell> {
    let lasts = match token.expires_in_ms {
        None => "until it is revoked".to_owned(),
        Some(0) => "has expired".to_owned(),
        Some(left) => duration::shown_ms(left),
    };
    vec![
        token.id.as_str().into(),
        token.identity.as_str().into(),
        lasts.into(),
    ]
}

/// Revokes tokens, by their ids: they prove nobody from then on
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  tenure token revoke 3f9c2a7b5d1e8046
It ends with 2 where one of them is not there: those before it are revoked. What its identity holds stands until its leases end, \
unless another token renews them.")]
struct Revoke {
    /// Which: what is before the dot in a token
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
}

impl Revoke {
    async fn run(self, session: &Session) -> Result<Exit, Trouble> {
        for (before, id) in self.ids.iter().enumerate() {
            let revoked = session.client.revoke_token(id).await;
            revoked.map_err(|error| Trouble::from(error).after(before > 0))?;
            match session.output {
                Output::Json => output::json(&json!({"id": id, "deleted": true}))?,
                Output::Table => output::text(&format!("{id}  revoked\n"))?,
            }
        }
        Ok(Exit::DONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_file_the_id_of_its_token_is_told_and_nothing_of_another_file() {
        let dir = tempfile::tempdir().expect("there is room for a directory");
        let check = |text: &str, id: Option<&str>| {
            let file = dir.path().join("token");
            fs::write(&file, text).expect("it is written");
            assert_eq!(id_in(&file).as_deref(), id, "{text}");
        };
        check("00000000000000a1.5ecre7\n", Some("00000000000000a1"));
        check("5ecre7.00000000000000a1", None);
        check("00000000000000a1", None);
        check("", None);
        assert_eq!(id_in(&dir.path().join("none")), None);
    }
}
