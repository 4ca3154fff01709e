//! Which cluster is meant: flags, the environment and the file with contexts.
//!
//! Owns the order in which they count and says where a setting came from. A flag wins over the environment, the
//! environment over the file. Nothing unknown in the file is passed over.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use serde::Deserialize;
use tenure::{Client, ClientBuilder, Error};
use tokio_rustls::rustls::ClientConfig;

use crate::duration;
use crate::exit::{Exit, Trouble};
use crate::output::Output;

/// A member on this machine, where `tenured dev` listens.
const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:7379";

const ONLY_GIVEN: &str = "TENURE_ONLY_GIVEN";

const TOKEN_FILE: &str = "TENURE_TOKEN_FILE";

/// What every command takes.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Options {
    /// Client URLs of members, separated by commas [env: TENURE_ENDPOINTS] [default: http://127.0.0.1:7379]
    #[arg(
        long,
        global = true,
        value_delimiter = ',',
        value_name = "URLS",
        conflicts_with = "context"
    )]
    endpoints: Vec<String>,
    /// The context of the configuration file to use [env: TENURE_CONTEXT]
    #[arg(long, global = true, value_name = "NAME")]
    context: Option<String>,
    /// Ask only the members that are given, also where they tell of a leader elsewhere [env: TENURE_ONLY_GIVEN=true]
    #[arg(long, global = true)]
    only_given: bool,
    /// The file with the token by which this program says who it is [env: TENURE_TOKEN_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// How long one call may take, all its tries together; a cluster that is away is tried for so long, also with --wait
    #[arg(long, global = true, value_name = "TIME", default_value = "10s", value_parser = duration::timeout)]
    timeout: Duration,
    /// How answers are written: for people, or with the fields of the REST API
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value = "table",
        value_name = "FORM"
    )]
    pub(crate) output: Output,
}

/// The file `tenure/config.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// The context that is used where no other is named.
    context: Option<String>,
    #[serde(default)]
    contexts: BTreeMap<String, Context>,
}

/// One cluster.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    pub(crate) endpoints: Vec<String>,
    #[serde(default)]
    pub(crate) only_given: bool,
    /// The authority that issued the certificates of the members, in PEM; those of the machine where none is given.
    ca_file: Option<PathBuf>,
    /// The certificate of this client and its key, in PEM.
    certificate_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    /// What has the token by which this client says who it is.
    token_file: Option<PathBuf>,
}

impl Context {
    /// Whether something says who asks.
    fn has_certificate(&self) -> bool {
        self.certificate_file.is_some()
    }
}

/// The file with the token.
pub(crate) struct TokenFile {
    /// From the root.
    pub(crate) path: PathBuf,
    /// Who named it.
    pub(crate) because: &'static str,
}

/// What a command needs of all that.
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) chosen: Chosen,
    pub(crate) output: Output,
}

/// The same for requests that do not go through the client of this program.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    pub(crate) endpoints: Vec<String>,
    /// Where members are asked by `https`.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    pub(crate) authorization: Option<HeaderValue>,
}

/// The members to ask, and who said so.
pub(crate) struct Chosen {
    pub(crate) name: Option<String>,
    pub(crate) cluster: Context,
    pub(crate) because: String,
    /// What has the token, where there is one.
    pub(crate) token: Option<TokenFile>,
    /// The file, where there is one.
    pub(crate) file: Option<PathBuf>,
    pub(crate) contexts: BTreeMap<String, Context>,
}

impl Chosen {
    /// Whether requests say who asks.
    pub(crate) fn is_somebody(&self) -> bool {
        self.token.is_some() || self.cluster.has_certificate()
    }

    /// By what `tenure` inside of a command asks the same members in the same way. What is secret stays in the files that
    /// are named.
    pub(crate) fn environment(&self) -> [(&'static str, OsString); 4] {
        let token = self.token.as_ref();
        let token = token.map_or_else(OsString::new, |token| token.path.clone().into());
        // What is empty counts as not set.
        let name = self.name.clone().unwrap_or_default();
        let only_given = self.cluster.only_given.to_string();
        [
            ("TENURE_ENDPOINTS", self.cluster.endpoints.join(",").into()),
            ("TENURE_CONTEXT", name.into()),
            (ONLY_GIVEN, only_given.into()),
            (TOKEN_FILE, token),
        ]
    }
}

/// The environment, so that tests have one of their own.
type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Options {
    pub(crate) fn session(&self) -> Result<Session, Trouble> {
        let chosen = self.chosen()?;
        let client = self.client(&chosen)?;
        Ok(Session {
            client,
            chosen,
            output: self.output,
        })
    }

    /// What an HTTP client of this program's own needs to ask the same members.
    pub(crate) fn access(&self) -> Result<Access, Trouble> {
        let chosen = self.chosen()?;
        let (builder, token) = self.builder(&chosen)?;
        let tls = builder.tls_config();
        let tls = tls.map_err(|error| self.refused(&chosen, &error))?;
        // What is wrong with a URL or the token is told as to all other commands.
        let client = builder.build();
        client.map_err(|error| self.refused(&chosen, &error))?;
        let authorization = token.and_then(|token| {
            let mut value = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
            value.set_sensitive(true);
            Some(value)
        });
        Ok(Access {
            endpoints: chosen.cluster.endpoints,
            tls: tls.map(Arc::new),
            authorization,
        })
    }

    fn client(&self, chosen: &Chosen) -> Result<Client, Trouble> {
        let (builder, _) = self.builder(chosen)?;
        let client = builder.build();
        client.map_err(|error| self.refused(chosen, &error))
    }

    /// A client to be made, and the token by which it says who asks.
    fn builder(&self, chosen: &Chosen) -> Result<(ClientBuilder, Option<String>), Trouble> {
        let cluster = &chosen.cluster;
        let read = |path: &PathBuf| {
            let path = beside(chosen.file.as_deref(), path);
            fs::read(&path).map_err(|error| {
                let told = format!("{}: cannot be read: {error}", path.display());
                Trouble::new(Exit::CONFIG, told)
                    .then("`tenure context` shows which context names this file")
            })
        };
        let mut builder = Client::builder(cluster.endpoints.clone()).patience(self.timeout);
        if cluster.only_given {
            builder = builder.at_given_urls_only();
        }
        if let Some(path) = &cluster.ca_file {
            builder = builder.authority(read(path)?);
        }
        let token = chosen.token.as_ref().map(TokenFile::read).transpose()?;
        if let Some(token) = &chosen.token {
            builder = builder.token_file(&token.path);
        }
        match (&cluster.certificate_file, &cluster.key_file) {
            (Some(certificate), Some(key)) => {
                // What cannot be read at all is told with the context that names it.
                read(certificate)?;
                read(key)?;
                let [certificate, key] =
                    [certificate, key].map(|path| beside(chosen.file.as_deref(), path));
                builder = builder.identity_files(certificate, key);
            }
            (None, None) => {}
            _ => {
                let told =
                    "certificate_file and key_file belong together, and one of them is missing";
                return Err(Trouble::new(Exit::CONFIG, told).then("give both, or neither"));
            }
        }
        Ok((builder, token))
    }

    /// What is told of settings of which no client can be made.
    fn refused(&self, chosen: &Chosen, error: &Error) -> Trouble {
        let detail = error
            .failure()
            .map_or_else(String::new, ToString::to_string);
        // A wrong flag is wrong usage, as every other; what came from elsewhere is the configuration.
        let exit = match self.endpoints.is_empty() {
            true => Exit::CONFIG,
            false => Exit::USAGE,
        };
        if let Some(token) = chosen.token.as_ref().filter(|_| detail.contains("token")) {
            return Trouble::new(Exit::CONFIG, format!("{detail} ({})", token.because)).then(
                "name a file that has a token and nothing else, as `tenure token create --out FILE` writes it",
            );
        }
        let endpoints = &chosen.cluster.endpoints;
        let mut bare = endpoints.iter();
        let bare = bare.find(|url| !url.is_empty() && !url.contains("://"));
        Trouble::new(exit, format!("{detail} ({})", chosen.because)).then(match bare {
            Some(bare) => {
                format!("write http://{bare}, or https:// where members have certificates")
            }
            None => "write members as http://10.0.0.1:7379,http://10.0.0.2:7379".to_owned(),
        })
    }

    /// Who is to be asked.
    pub(crate) fn chosen(&self) -> Result<Chosen, Trouble> {
        self.chosen_in(&|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn chosen_in(&self, environment: Environment<'_>) -> Result<Chosen, Trouble> {
        let path = path(environment);
        let named =
            |file: &File, name: &str, because: &str| named(file, name, path.as_deref(), because);
        let file = path.as_deref().map(read).transpose()?.flatten();
        let known = file.is_some();
        let file = file.unwrap_or_default();
        let place = path.clone().filter(|_| known);
        let listed = |urls: &str| -> Vec<String> {
            urls.split(',').map(|url| url.trim().to_owned()).collect()
        };
        let urls = environment("TENURE_ENDPOINTS").map(|urls| listed(&urls));
        // As a command finds both that runs under a lock: the members of a context are asked as that says.
        let in_context = || {
            let name = environment("TENURE_CONTEXT")?;
            let cluster = file.contexts.get(&name)?;
            let is_meant = urls.as_ref() == Some(&cluster.endpoints);
            is_meant.then(|| (name, cluster.clone()))
        };
        let (name, cluster, because) = if !self.endpoints.is_empty() {
            (
                None,
                given(
                    self.endpoints
                        .iter()
                        .flat_map(|urls| listed(urls))
                        .collect(),
                ),
                "--endpoints".to_owned(),
            )
        } else if let Some(name) = &self.context {
            (
                Some(name.clone()),
                named(&file, name, "--context")?,
                "--context".to_owned(),
            )
        } else if let Some((name, cluster)) = in_context() {
            (Some(name), cluster, "TENURE_CONTEXT".to_owned())
        } else if let Some(urls) = &urls {
            (None, given(urls.clone()), "TENURE_ENDPOINTS".to_owned())
        } else if let Some(name) = environment("TENURE_CONTEXT") {
            let cluster = named(&file, &name, "TENURE_CONTEXT")?;
            (Some(name), cluster, "TENURE_CONTEXT".to_owned())
        } else if let Some(name) = &file.context {
            let because = format!("`context` in {}", shown(place.as_deref()));
            let cluster = named(&file, name, &because)?;
            (Some(name.clone()), cluster, because)
        } else {
            let because = "nothing else was given".to_owned();
            (None, given(vec![DEFAULT_ENDPOINT.to_owned()]), because)
        };
        let only_given = match environment(ONLY_GIVEN).as_deref() {
            Some("true") => true,
            None | Some("false") => cluster.only_given || self.only_given,
            Some(other) => {
                let told =
                    format!("{ONLY_GIVEN} is {other:?}, and only true and false are accepted");
                return Err(
                    Trouble::new(Exit::CONFIG, told).then("write true or false, or unset it")
                );
            }
        };
        let token = self.token(environment, &cluster, place.as_deref());
        Ok(Chosen {
            name,
            token,
            cluster: Context {
                only_given,
                ..cluster
            },
            because,
            file: place,
            contexts: file.contexts,
        })
    }

    /// What has the token. A cluster that is named by `--context` is shown its own token only: the one of the environment
    /// is for whatever the environment means.
    fn token(
        &self,
        environment: Environment<'_>,
        cluster: &Context,
        file: Option<&Path>,
    ) -> Option<TokenFile> {
        let of = |because, path: PathBuf| {
            let path = std::path::absolute(&path).unwrap_or(path);
            TokenFile { path, because }
        };
        let of_context = cluster.token_file.as_ref();
        let of_context = of_context.map(|path| of("the context", beside(file, path)));
        match &self.token_file {
            Some(path) => Some(of("--token-file", path.clone())),
            None if self.context.is_some() => of_context,
            None => environment(TOKEN_FILE)
                .map(|path| of(TOKEN_FILE, path.into()))
                .or(of_context),
        }
    }
}

impl TokenFile {
    fn read(&self) -> Result<String, Trouble> {
        let token = fs::read(&self.path).map_err(|error| {
            let told = format!(
                "the token file {} cannot be read: {error} ({})",
                self.path.display(),
                self.because
            );
            Trouble::new(Exit::CONFIG, told).then(
                "`tenure context` shows who names it; `tenure token create --out FILE` writes one",
            )
        })?;
        Ok(String::from_utf8_lossy(&token).trim().to_owned())
    }
}

/// Relative to the file that names it.
fn beside(file: Option<&Path>, path: &Path) -> PathBuf {
    let beside = file.and_then(Path::parent);
    beside.map_or_else(|| path.to_owned(), |dir| dir.join(path))
}

fn given(endpoints: Vec<String>) -> Context {
    Context {
        endpoints,
        ..Context::default()
    }
}

fn shown(path: Option<&Path>) -> String {
    path.map_or_else(
        || "the configuration file".into(),
        |path| path.display().to_string(),
    )
}

fn named(file: &File, name: &str, path: Option<&Path>, because: &str) -> Result<Context, Trouble> {
    file.contexts.get(name).cloned().ok_or_else(|| {
        let known: Vec<&str> = file.contexts.keys().map(String::as_str).collect();
        let place = shown(path);
        let known = match (path, known.is_empty()) {
            (None, _) => "neither HOME nor XDG_CONFIG_HOME says where its file is".to_owned(),
            (Some(path), true) if !path.exists() => format!("there is no {place}"),
            (Some(_), true) => format!("{place} has no contexts"),
            (Some(_), false) => format!("{place} has {}", known.join(", ")),
        };
        Trouble::new(
            Exit::CONFIG,
            format!("there is no context {name:?} ({because}): {known}"),
        )
        .then(format!(
            "add `[contexts.{name}]` with `endpoints = [\"http://…:7379\"]` to {place}, or name another one"
        ))
    })
}

fn path(environment: Environment<'_>) -> Option<PathBuf> {
    let config = environment("XDG_CONFIG_HOME").map(PathBuf::from);
    let config = config.filter(|path| path.is_absolute());
    let home = || environment("HOME").map(|home| PathBuf::from(home).join(".config"));
    Some(config.or_else(home)?.join("tenure/config.toml"))
}

fn read(path: &Path) -> Result<Option<File>, Trouble> {
    let wrong = |why: String| {
        Trouble::new(Exit::CONFIG, format!("{}: {why}", path.display())).then(
            "it has `context = \"NAME\"` and, for each cluster, `[contexts.NAME]` with `endpoints = [\"http://…:7379\"]`",
        )
    };
    match fs::read_to_string(path) {
        Ok(text) => toml::from_str(&text)
            .map(Some)
            .map_err(|error| wrong(error.to_string().trim_end().to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(wrong(format!("cannot be read: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "context = \"here\"\n[contexts.here]\nendpoints = [\"http://h:1\"]\n\
        [contexts.there]\nendpoints = [\"http://t:1\", \"http://t:2\"]\nonly_given = true\n";

    fn options() -> Options {
        Options {
            endpoints: Vec::new(),
            context: None,
            only_given: false,
            token_file: None,
            timeout: Duration::from_secs(10),
            output: Output::Table,
        }
    }

    /// Who is asked with these variables and, where there is one, this file.
    fn chosen(
        options: &Options,
        variables: &[(&str, &str)],
        file: Option<&str>,
    ) -> Result<Chosen, Trouble> {
        let dir = tempfile::tempdir().expect("there is room for a directory");
        if let Some(text) = file {
            fs::create_dir(dir.path().join("tenure")).expect("it is made");
            fs::write(dir.path().join("tenure/config.toml"), text).expect("it is written");
        }
        let config = dir.path().display().to_string();
        options.chosen_in(&|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            let found = found.map(|(_, value)| (*value).to_owned());
            found.or_else(|| (name == "XDG_CONFIG_HOME").then(|| config.clone()))
        })
    }

    fn endpoints(chosen: Result<Chosen, Trouble>) -> Vec<String> {
        chosen.expect("somebody is asked").cluster.endpoints
    }

    #[test]
    fn a_flag_wins_over_the_environment_and_the_environment_over_the_file() {
        let by_flag = Options {
            endpoints: vec!["http://f:1".into()],
            ..options()
        };
        let by_name = Options {
            context: Some("there".into()),
            ..options()
        };
        let urls = ("TENURE_ENDPOINTS", "http://e:1, http://e:2");
        let name = ("TENURE_CONTEXT", "there");
        assert_eq!(
            endpoints(chosen(&by_flag, &[urls, name], Some(FILE))),
            ["http://f:1"]
        );
        let there = ["http://t:1", "http://t:2"];
        assert_eq!(endpoints(chosen(&by_name, &[urls], Some(FILE))), there);
        let by_urls = endpoints(chosen(&options(), &[urls, name], Some(FILE)));
        assert_eq!(by_urls, ["http://e:1", "http://e:2"]);
        assert_eq!(endpoints(chosen(&options(), &[name], Some(FILE))), there);
        assert_eq!(
            endpoints(chosen(&options(), &[], Some(FILE))),
            ["http://h:1"]
        );
        assert_eq!(endpoints(chosen(&options(), &[], None)), [DEFAULT_ENDPOINT]);
    }

    #[test]
    fn a_program_that_is_run_by_this_one_asks_the_same_members_in_the_same_way() {
        let check = |options: &Options, variables: &[(&str, &str)]| {
            let outer = chosen(options, variables, Some(FILE)).expect("somebody is asked");
            let told = outer.environment();
            let told = told.each_ref().map(|(name, value)| {
                let value = value.to_str().expect("it is text");
                (*name, value)
            });
            let told: Vec<_> = told
                .into_iter()
                .filter(|(_, value)| !value.is_empty())
                .collect();
            let inner = chosen(&super::tests::options(), &told, Some(FILE));
            let inner = inner.expect("somebody is asked");
            let way = |chosen: &Chosen| {
                let cluster = &chosen.cluster;
                let token = chosen.token.as_ref().map(|token| token.path.clone());
                (
                    token,
                    chosen.name.clone(),
                    cluster.endpoints.clone(),
                    cluster.only_given,
                )
            };
            assert_eq!(way(&inner), way(&outer), "{told:?}");
        };
        let flags = |endpoints: &[&str], context: Option<&str>, only_given| Options {
            endpoints: endpoints.iter().map(|url| (*url).to_owned()).collect(),
            context: context.map(str::to_owned),
            only_given,
            ..options()
        };
        check(&flags(&[], Some("there"), false), &[]);
        check(&flags(&[], Some("here"), true), &[]);
        check(&flags(&["http://h:1"], None, true), &[]);
        // The members of a context, but not as the context says.
        check(
            &flags(&["http://t:1", "http://t:2"], None, false),
            &[("TENURE_CONTEXT", "there")],
        );
        check(&options(), &[("TENURE_CONTEXT", "there")]);
        check(&options(), &[]);
        let with_token = Options {
            token_file: Some("a/token".into()),
            ..flags(&[], Some("there"), false)
        };
        check(&with_token, &[]);
        check(&options(), &[("TENURE_TOKEN_FILE", "b/token")]);
        check(
            &flags(&[], Some("there"), false),
            &[("TENURE_TOKEN_FILE", "b/token")],
        );
        let wrong = chosen(&options(), &[(ONLY_GIVEN, "yes")], None);
        let wrong = wrong.err().expect("it is refused").to_string();
        assert!(wrong.contains("TENURE_ONLY_GIVEN is \"yes\""), "{wrong}");
    }

    #[test]
    fn a_token_is_of_the_flag_or_the_environment_or_the_context_and_goes_to_no_other_cluster() {
        let file = "[contexts.a]\nendpoints = [\"http://a:1\"]\ntoken_file = \"of-a\"\n\
            [contexts.b]\nendpoints = [\"http://b:1\"]\n";
        let check = |flag: Option<&str>,
                     context: Option<&str>,
                     variables: &[(&str, &str)],
                     named: Option<&str>| {
            let options = Options {
                token_file: flag.map(Into::into),
                context: context.map(str::to_owned),
                ..options()
            };
            let chosen = chosen(&options, variables, Some(file)).expect("somebody is asked");
            let token = chosen.token.map(|token| token.path);
            let name = token.as_ref().and_then(|path| path.file_name()?.to_str());
            assert_eq!(name, named, "{flag:?} {context:?} {variables:?}");
            assert!(token.is_none_or(|path| path.is_absolute()));
        };
        let (token, in_a) = (("TENURE_TOKEN_FILE", "of-env"), ("TENURE_CONTEXT", "a"));
        check(Some("of-flag"), Some("a"), &[token], Some("of-flag"));
        check(None, Some("a"), &[token], Some("of-a"));
        check(None, Some("b"), &[token], None);
        check(None, None, &[token, in_a], Some("of-env"));
        check(None, None, &[in_a], Some("of-a"));
        check(None, None, &[token], Some("of-env"));
        check(None, None, &[], None);
    }

    #[test]
    fn a_context_that_is_not_there_is_told_which_are() {
        let by_name = Options {
            context: Some("nowhere".into()),
            ..options()
        };
        let check = |file, part: &str| {
            let trouble = chosen(&by_name, &[], file).err().expect("it is refused");
            assert_eq!(trouble.exit, Exit::CONFIG);
            assert!(format!("{trouble:?}").contains(part), "{trouble:?}");
        };
        check(Some(FILE), "has here, there");
        check(None, "tenure/config.toml");
        check(None, "(--context): there is no /");
    }

    #[test]
    fn a_wrong_file_is_told_its_line_and_what_belongs_there() {
        let check = |file, part: &str| {
            let trouble = chosen(&options(), &[], Some(file));
            let trouble = trouble.err().expect("it is refused");
            assert!(format!("{trouble:?}").contains(part), "{trouble:?}");
        };
        check(
            "[contexts.a]\nendpoint = [\"http://a:1\"]\n",
            "unknown field `endpoint`",
        );
        check("[contexts.a]\nendpoint = [\"http://a:1\"]\n", "line 2");
        check("context = 7\n", "line 1");
        check("colour = \"red\"\n", "unknown field `colour`");
    }
}
