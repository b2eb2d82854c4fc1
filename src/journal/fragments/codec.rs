//! Reading the content of a stored fragment, whatever its codec, through a window of bounded memory.
//!
//! *Invariants.* No length that is found in a file is allocated: a zstd window above 32 MiB is refused, gzip and
//! snappy windows are fixed by their formats. An error of the file stays an I/O error; every other one means
//! that the bytes are damaged.
//!
//! *Does not* know how long the content should be, nor its sum.

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

use crate::journal::Codec;
use crate::vfs::File;

/// Base-2 logarithm of the largest zstd window that is accepted. Encoders use up to 8 MiB below their "ultra"
/// levels; the format's largest would take 2 GiB of memory.
#[cfg(feature = "zstd")]
const ZSTD_WINDOW_LOG_MAX: u32 = 25;

/// Bytes of the file that are read ahead of a decoder.
#[cfg(any(feature = "gzip", feature = "zstd", feature = "snappy"))]
const INPUT_BYTES: usize = 128 << 10;

impl Codec {
    /// Returns the feature of this crate that the codec needs, where it is not there.
    pub(crate) const fn missing_feature(self) -> Option<&'static str> {
        match self {
            Self::Gzip | Self::GzipOffloadDecompression if !cfg!(feature = "gzip") => Some("gzip"),
            Self::Zstandard if !cfg!(feature = "zstd") => Some("zstd"),
            Self::Snappy if !cfg!(feature = "snappy") => Some("snappy"),
            _ => None,
        }
    }
}

/// Returns a reader of the content that `file` holds, compressed with `codec`.
///
/// # Errors
/// `Unsupported` where [`Codec::missing_feature`] names a feature.
pub(in crate::journal) fn content(file: Arc<dyn File>, codec: Codec) -> io::Result<Box<dyn Read + Send>> {
    content_of(FileSource { file, position: 0 }, codec)
}

/// Returns a reader of the content that `source` gives, compressed with `codec`. What goes wrong with the source it gives as a
/// [`source_error`].
///
/// # Errors
/// As those of [`content`].
pub(in crate::journal) fn content_of(
    source: impl Read + Send + 'static,
    codec: Codec,
) -> io::Result<Box<dyn Read + Send>> {
    match codec {
        Codec::None => Ok(Box::new(source)),
        #[cfg(feature = "gzip")]
        Codec::Gzip | Codec::GzipOffloadDecompression => {
            let source = io::BufReader::with_capacity(INPUT_BYTES, source);
            Ok(Box::new(flate2::bufread::MultiGzDecoder::new(source)))
        }
        #[cfg(feature = "zstd")]
        Codec::Zstandard => {
            let source = io::BufReader::with_capacity(INPUT_BYTES, source);
            let mut decoder = zstd::stream::read::Decoder::with_buffer(source)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Ok(Box::new(decoder))
        }
        #[cfg(feature = "snappy")]
        Codec::Snappy => {
            let source = io::BufReader::with_capacity(INPUT_BYTES, source);
            Ok(Box::new(snap::read::FrameDecoder::new(source)))
        }
        #[cfg(not(all(feature = "gzip", feature = "zstd", feature = "snappy")))]
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// Marks an error of a source, which is not the doing of a decoder.
pub(in crate::journal) fn source_error(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), FileError(Arc::new(error)))
}

/// Reads a file from `position` on, uncompressed.
pub(in crate::journal) fn raw_content(file: Arc<dyn File>, position: u64) -> Box<dyn Read + Send> {
    Box::new(FileSource { file, position })
}

/// Returns what the file system said, where `error` is not the doing of a decoder.
pub(super) fn file_error(error: &io::Error) -> Option<&Arc<io::Error>> {
    error.get_ref()?.downcast_ref::<FileError>().map(|FileError(error)| error)
}

/// A cursor over a file.
struct FileSource {
    file: Arc<dyn File>,
    position: u64,
}

impl Read for FileSource {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = loop {
            match self.file.read_at(buffer, self.position) {
                Ok(read) => break read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(source_error(error)),
            }
        };
        self.position += read as u64;
        Ok(read)
    }
}

/// Marks an error of the file on its way through a decoder.
#[derive(Debug)]
struct FileError(Arc<io::Error>);

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for FileError {}
