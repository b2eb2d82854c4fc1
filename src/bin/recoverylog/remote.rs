//! What the command line names by an address: journals and hints, here or in a cluster.
//!
//! An address is looked at when the command line is; nobody is asked before a command needs it.

use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[cfg(all(feature = "etcd", not(feature = "gazette")))]
use recoverylog::hint_store::Tls;
use recoverylog::hint_store::{DirectoryHints, HintStore};
#[cfg(feature = "etcd")]
use recoverylog::hint_store::{EtcdHints, EtcdOptions};
#[cfg(feature = "gazette")]
use recoverylog::journal::{Auth, GazetteJournals, GazetteOptions, Journals, Tls};
use recoverylog::vfs::OsFs;
use recoverylog::{Error, ErrorKind, Result};

use crate::args::Args;
#[cfg(any(feature = "etcd", feature = "gazette"))]
use crate::place;

/// Where journals live.
#[derive(Clone, Debug)]
pub(crate) enum JournalsAt {
    Folder(PathBuf),
    #[cfg(feature = "gazette")]
    Gazette(String),
}

/// Where hints are.
#[derive(Clone, Debug)]
pub(crate) enum HintsAt {
    /// A file, or a directory of sets.
    Path(PathBuf),
    #[cfg(feature = "etcd")]
    Etcd(String),
}

/// Takes an address of journals.
pub(crate) fn journals(url: &str) -> Result<JournalsAt> {
    match url.split_once("://") {
        #[cfg(feature = "gazette")]
        Some(("gazette" | "gazettes", _)) => Ok(JournalsAt::Gazette(url.to_owned())),
        #[cfg(not(feature = "gazette"))]
        Some(("gazette" | "gazettes", _)) => Err(not_built("gazette")),
        _ => folder_of(url).map(JournalsAt::Folder),
    }
}

/// Takes an address of hints.
#[cfg_attr(
    feature = "etcd",
    expect(clippy::unnecessary_wraps, reason = "without etcd there are addresses that are refused")
)]
pub(crate) fn hints(named: &str) -> Result<HintsAt> {
    match named.split_once("://") {
        #[cfg(feature = "etcd")]
        Some(("etcd" | "etcds", _)) => Ok(HintsAt::Etcd(named.to_owned())),
        #[cfg(not(feature = "etcd"))]
        Some(("etcd" | "etcds", _)) => Err(not_built("etcd")),
        _ => Ok(HintsAt::Path(named.into())),
    }
}

#[cfg(not(all(feature = "etcd", feature = "gazette")))]
fn not_built(feature: &str) -> Error {
    let what = format!("this tool was built without the feature `{feature}`");
    Error::new(ErrorKind::Invalid, what).advise(format!("build it with `--features cli,{feature}`"))
}

impl HintsAt {
    /// Returns the one file that is named; `None` where it is a store.
    pub(crate) fn file(&self) -> Option<&Path> {
        match self {
            Self::Path(path) => (!path.is_dir()).then_some(path),
            #[cfg(feature = "etcd")]
            Self::Etcd(_) => None,
        }
    }

    /// Opens the store that is named; a directory must be there.
    #[cfg_attr(not(feature = "etcd"), expect(unused_variables, reason = "a directory needs no options"))]
    pub(crate) fn store(&self, args: &Args) -> Result<Arc<dyn HintStore>> {
        match self {
            Self::Path(path) => {
                let resolved = path.canonicalize().unwrap_or_else(|_| path.clone());
                Ok(Arc::new(DirectoryHints::open_existing(Arc::new(OsFs::new()), &resolved)?))
            }
            #[cfg(feature = "etcd")]
            Self::Etcd(url) => args.remote.hints(url),
        }
    }

    /// Opens the store that is named, to add to it; a directory is made where there is none.
    #[cfg_attr(not(feature = "etcd"), expect(unused_variables, reason = "a directory needs no options"))]
    pub(crate) fn store_to_add(&self, args: &Args) -> Result<Arc<dyn HintStore>> {
        match self {
            Self::Path(path) => Ok(Arc::new(DirectoryHints::open(Arc::new(OsFs::new()), path)?)),
            #[cfg(feature = "etcd")]
            Self::Etcd(_) => self.store(args),
        }
    }
}

/// How machines of clusters are spoken to.
#[cfg(any(feature = "etcd", feature = "gazette"))]
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Clusters")]
pub(crate) struct Remote {
    /// Trust these authorities, in PEM, and not those of the system
    #[arg(long, value_name = "FILE", global = true)]
    tls_ca: Option<PathBuf>,

    /// Show this certificate, in PEM
    #[arg(long, value_name = "FILE", global = true, requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// Read the key of the certificate, in PEM
    #[arg(long, value_name = "FILE", global = true, requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Sign tokens for brokers with the first key of this file, in base64 as in AUTH_KEYS
    #[cfg(feature = "gazette")]
    #[arg(long, value_name = "FILE", global = true)]
    auth_keys: Option<PathBuf>,

    /// Send brokers the token of this file
    #[cfg(feature = "gazette")]
    #[arg(long, value_name = "FILE", global = true, conflicts_with = "auth_keys")]
    auth_token: Option<PathBuf>,

    /// Read what brokers keep in a file:// store from this folder, where this machine has it too
    #[cfg(feature = "gazette")]
    #[arg(long, value_name = "DIR", global = true)]
    file_root: Option<PathBuf>,

    /// Tell etcd the user of this file, as NAME:PASSWORD
    #[cfg(feature = "etcd")]
    #[arg(long, value_name = "FILE", global = true)]
    etcd_user: Option<PathBuf>,
}

#[cfg(any(feature = "etcd", feature = "gazette"))]
impl Remote {
    /// Opens journals of a cluster.
    #[cfg(feature = "gazette")]
    pub(crate) fn journals(&self, url: &str) -> Result<Arc<dyn Journals>> {
        let mut options = GazetteOptions::default();
        options.tls = self.tls()?;
        options.file_root.clone_from(&self.file_root);
        if let Some(path) = &self.auth_keys {
            options.auth = Auth::Keys(text(path)?);
        }
        if let Some(path) = &self.auth_token {
            options.auth = Auth::Token(text(path)?);
        }
        Ok(Arc::new(GazetteJournals::at(url, options)?))
    }

    /// Opens hints of a shard.
    #[cfg(feature = "etcd")]
    fn hints(&self, url: &str) -> Result<Arc<dyn HintStore>> {
        let mut options = EtcdOptions::default();
        options.tls = self.tls()?;
        if let Some(path) = &self.etcd_user {
            let user = text(path)?;
            let (name, password) = user.split_once(':').ok_or_else(|| {
                Error::new(ErrorKind::Invalid, format!("no user in {}", path.display()))
                    .expected("NAME:PASSWORD", "no colon")
            })?;
            options.user = Some((name.into(), password.into()));
        }
        Ok(Arc::new(EtcdHints::at(url, options)?))
    }

    fn tls(&self) -> Result<Tls> {
        let mut tls = Tls::default();
        tls.authority_pem = self.tls_ca.as_deref().map(bytes).transpose()?;
        if let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) {
            tls.identity_pem = Some((bytes(certificate)?, bytes(key)?));
        }
        Ok(tls)
    }
}

/// The longest file of certificates, keys or tokens.
#[cfg(any(feature = "etcd", feature = "gazette"))]
const SECRET_BYTES_MAX: u64 = 1 << 20;

#[cfg(any(feature = "etcd", feature = "gazette"))]
fn bytes(path: &Path) -> Result<Vec<u8>> {
    place::read(path, "certificates, keys or tokens", SECRET_BYTES_MAX)
}

/// Reads a file of one line.
#[cfg(any(feature = "etcd", feature = "gazette"))]
fn text(path: &Path) -> Result<String> {
    let text = String::from_utf8(bytes(path)?);
    let text = text.map_err(|_| Error::new(ErrorKind::Invalid, format!("{} is no text", path.display())))?;
    Ok(text.trim().to_owned())
}

impl fmt::Display for HintsAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            #[cfg(feature = "etcd")]
            Self::Etcd(url) => f.write_str(url),
        }
    }
}

/// Returns the folder that a URL names.
fn folder_of(url: &str) -> Result<PathBuf> {
    let invalid = |what: &str, actual: &str| {
        Error::new(ErrorKind::Invalid, format!("--journals {url}: {what}"))
            .expected("./dir, file:///dir or gazette://host:port", actual)
    };
    let Some((scheme, rest)) = url.split_once("://") else {
        return if url.is_empty() { Err(invalid("no folder is named", "nothing")) } else { Ok(url.into()) };
    };
    if scheme != "file" {
        return Err(invalid("there are no journals of this kind", scheme));
    }
    if !rest.starts_with('/') {
        return Err(invalid("a file URL names no host, and an absolute path", rest));
    }
    if rest.contains(['?', '#']) {
        return Err(invalid("a file URL has no query and no fragment", rest));
    }
    percent_decoded(rest).ok_or_else(|| invalid("a percent sign is followed by two hexadecimal digits", rest))
}

fn percent_decoded(path: &str) -> Option<PathBuf> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        decoded.push((digit()? * 16 + digit()?) as u8);
    }
    if decoded.contains(&0) { None } else { Some(std::ffi::OsString::from_vec(decoded).into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_path_or_has_the_scheme_file() {
        for (url, folder) in [
            ("./dir", "./dir"),
            ("dir", "dir"),
            ("/a b", "/a b"),
            ("file:///a/b", "/a/b"),
            ("file:///a%20b%25", "/a b%"),
        ] {
            assert_eq!(folder_of(url).unwrap(), Path::new(folder), "{url}");
        }
        for url in
            ["", "s3://bucket", "file://host/a", "file://a", "file:///a%2", "file:///a%00", "file:///a?b"]
        {
            assert_eq!(folder_of(url).unwrap_err().kind(), ErrorKind::Invalid, "{url}");
        }
    }
}
