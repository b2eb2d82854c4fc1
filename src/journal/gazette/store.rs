//! Fragments straight from their store, without the broker between.
//!
//! *Invariants.* Content is exactly as long as the fragment, and has its SHA-1 where it is read whole; otherwise it is
//! `Corrupt`. A file is looked for only below the root that the user named, under the name that the fragment has: never where
//! a broker says.
//!
//! *Does not* retry: the broker can be asked for the same bytes.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use reqwest::header::{ACCEPT_ENCODING, CONTENT_ENCODING};
use tokio::sync::mpsc;

use super::cluster::Cluster;
use super::proto;
use crate::ids::{JournalName, Offset};
use crate::journal::fragments::{codec, reader};
use crate::journal::{Codec, Fragment, JournalError};
use crate::vfs::{FileSystem, OpenMode, OsFs};

/// Pieces that wait between two threads.
const PIECES_MAX: usize = 4;

/// Where a fragment is.
pub(super) enum Source {
    File { root: PathBuf, path: String },
    Web { client: reqwest::Client, url: String, answer_max: Duration },
}

/// Returns where a fragment can be read; `None` where only the broker can.
pub(super) fn source(
    cluster: &Cluster,
    journal: &JournalName,
    fragment: &Fragment,
    url: &str,
) -> Option<Source> {
    if fragment.codec.missing_feature().is_some() || fragment.modified_unix_secs.is_none() {
        return None;
    }
    if url.starts_with("file://") {
        let root = cluster.options.file_root.clone()?;
        return Some(Source::File { root, path: proto::path_in_store(journal.as_str(), fragment)? });
    }
    let is_web = url.starts_with("https://") || url.starts_with("http://") && !cluster.is_secure();
    let client = cluster.web.clone().filter(|_| is_web && cluster.options.stores)?;
    Some(Source::Web { client, url: url.to_owned(), answer_max: cluster.options.answer_max })
}

/// The content of a fragment, on its way from a thread that unpacks it.
#[derive(Debug)]
pub(super) struct Content {
    pieces: mpsc::Receiver<Result<Bytes, JournalError>>,
}

impl Content {
    /// Begins to read `[begin, limit)` of a fragment, or up to its end.
    pub(super) fn begin(
        journal: &JournalName,
        source: Source,
        fragment: Fragment,
        (begin, limit): (Offset, Offset),
    ) -> Self {
        let (sender, pieces) = mpsc::channel(PIECES_MAX);
        let reading = Reading { journal: journal.clone(), fragment, begin, limit };
        match source {
            Source::File { root, path } => {
                drop(tokio::task::spawn_blocking(move || {
                    let opened = reading.open_file(&root, &path);
                    reading.send(opened, &sender);
                }));
            }
            Source::Web { client, url, answer_max } => {
                drop(tokio::spawn(async move { reading.fetch((&client, &url), answer_max, sender).await }));
            }
        }
        Self { pieces }
    }

    /// Returns the next piece; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, JournalError> {
        self.pieces.recv().await.transpose()
    }
}

/// What is read of a fragment.
struct Reading {
    journal: JournalName,
    fragment: Fragment,
    begin: Offset,
    limit: Offset,
}

type Pieces = mpsc::Sender<Result<Bytes, JournalError>>;

impl Reading {
    fn open_file(&self, root: &Path, path: &str) -> Result<reader::Content, JournalError> {
        let io = |source: io::Error| JournalError::Io {
            journal: self.journal.clone(),
            what: format!("opening the fragment {path} below {}", root.display()),
            source: Arc::new(source),
        };
        let below = OsFs::new().beneath(root).map_err(io)?;
        let file = below.open(Path::new(path), OpenMode::Read).map_err(io)?;
        let is_whole = self.begin == self.fragment.begin;
        if self.fragment.codec == Codec::None && !is_whole {
            let decoder = codec::raw_content(file, self.begin.bytes_since(self.fragment.begin));
            return Ok(reader::Content::new(decoder, self.begin..self.fragment.end, None, path.into()));
        }
        let decoder = match self.fragment.codec {
            Codec::None => codec::raw_content(file, 0),
            packed => codec::content(file, packed).map_err(io)?,
        };
        Ok(self.content(decoder, path))
    }

    /// Reads all of the fragment out of `decoder`, which is checked by its sum, whatever of it is wanted.
    fn content(&self, decoder: Box<dyn Read + Send>, path: &str) -> reader::Content {
        reader::Content::new(decoder, self.fragment.begin..self.fragment.end, self.fragment.sum, path.into())
    }

    /// Sends what is wanted of the content, piece by piece, until nobody wants it any more.
    fn send(&self, content: Result<reader::Content, JournalError>, pieces: &Pieces) {
        let mut content = match content {
            Ok(content) => content,
            Err(error) => return drop(pieces.blocking_send(Err(error))),
        };
        while content.at < self.limit.min(content.end) {
            let skips = content.at < self.begin;
            let read = content.read(if skips { self.begin } else { self.limit }, &self.journal);
            match read {
                Ok(_) if skips => {}
                Ok(bytes) => {
                    if pieces.blocking_send(Ok(bytes)).is_err() {
                        return;
                    }
                }
                Err(error) => return drop(pieces.blocking_send(Err(error))),
            }
        }
    }

    async fn fetch(self, (client, url): (&reqwest::Client, &str), answer_max: Duration, pieces: Pieces) {
        // A server that unpacks what it stores as gzip is told not to; of what was given as gzip it keeps its hands off.
        let accepts = if self.fragment.codec == Codec::Gzip { "gzip" } else { "identity" };
        let asked = client.get(url).header(ACCEPT_ENCODING, accepts).send();
        let unavailable = |what: String| JournalError::Unavailable { journal: self.journal.clone(), what };
        let response = match tokio::time::timeout(answer_max, asked).await {
            Ok(Ok(response)) if response.status().is_success() => response,
            Ok(Ok(response)) => {
                let what = format!("the fragment store answered {}", response.status());
                return drop(pieces.send(Err(unavailable(what))).await);
            }
            Ok(Err(error)) => {
                // An address that is signed is a secret for as long as it is good.
                let what = format!("the fragment store cannot be read: {}", error.without_url());
                return drop(pieces.send(Err(unavailable(what))).await);
            }
            Err(_) => {
                let what = "the fragment store did not answer before the deadline";
                return drop(pieces.send(Err(unavailable(what.into()))).await);
            }
        };
        let is_packed = response.headers().get(CONTENT_ENCODING).is_some_and(|value| value == "gzip");
        let packed = match self.fragment.codec {
            Codec::GzipOffloadDecompression if !is_packed => Codec::None,
            codec => codec,
        };
        let (sender, body) = mpsc::channel(PIECES_MAX);
        let path = self.fragment_name();
        let unpacked = tokio::task::spawn_blocking(move || {
            let body = Body { pieces: body, now: Bytes::new() };
            let opened = codec::content_of(body, packed).map_err(|source| JournalError::Io {
                journal: self.journal.clone(),
                what: format!("unpacking the fragment {path}"),
                source: Arc::new(source),
            });
            self.send(opened.map(|decoder| self.content(decoder, &path)), &pieces);
        });
        forward(response, answer_max, sender).await;
        drop(unpacked.await);
    }

    fn fragment_name(&self) -> String {
        proto::path_in_store(self.journal.as_str(), &self.fragment).unwrap_or_default()
    }
}

/// Hands the body of an answer on, until nobody wants it any more.
async fn forward(
    mut response: reqwest::Response,
    answer_max: Duration,
    pieces: mpsc::Sender<io::Result<Bytes>>,
) {
    loop {
        let piece = match tokio::time::timeout(answer_max, response.chunk()).await {
            Ok(Ok(Some(piece))) => Ok(piece),
            Ok(Ok(None)) => return,
            Ok(Err(error)) => Err(io::Error::other(error.without_url())),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        let has_failed = piece.is_err();
        if pieces.send(piece).await.is_err() || has_failed {
            return;
        }
    }
}

/// The body of an answer, as a thread reads it.
struct Body {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    now: Bytes,
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.now.is_empty() {
            match self.pieces.blocking_recv() {
                Some(Ok(piece)) => self.now = piece,
                Some(Err(error)) => return Err(codec::source_error(error)),
                None => return Ok(0),
            }
        }
        let taken = buffer.len().min(self.now.len());
        self.now.split_to(taken).copy_to_slice(buffer.get_mut(..taken).unwrap_or_default());
        Ok(taken)
    }
}
