//! The names of stored fragments: `begin-end-sum.ext`, as Gazette writes and reads them.
//!
//! *Invariants.* A name that parses has `begin <= end`, both of which the wire can express. What is shown of a
//! name parses to an equal one.
//!
//! *Does not* look at any file.

use std::fmt;
use std::str::FromStr;

use crate::ids::Offset;
use crate::journal::{Codec, Fragment};

/// What the name of a stored fragment says.
///
/// ```
/// use recoverylog::journal::{Codec, FragmentName};
///
/// let name = "0000000000000000-00000000000059ba-ab0c744894a4ec77954e05f198b019e46b236b7d.gz";
/// let parsed: FragmentName = name.parse().unwrap();
/// assert_eq!((parsed.begin.get(), parsed.end.get(), parsed.codec), (0, 22_970, Codec::Gzip));
/// assert_eq!(parsed.to_string(), name);
/// ```
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct FragmentName {
    /// Where the content begins.
    pub begin: Offset,
    /// Where it ends.
    pub end: Offset,
    /// SHA-1 of the uncompressed content; all zeros where it is empty.
    pub sum: [u8; 20],
    /// How it is compressed.
    pub codec: Codec,
}

impl FragmentName {
    /// Returns the name under which `fragment` is stored; `None` while it is still being written.
    pub fn of(fragment: &Fragment) -> Option<Self> {
        let Fragment { begin, end, codec, sum, .. } = *fragment;
        Some(Self { begin, end, sum: sum?, codec })
    }
}

impl fmt::Display for FragmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:016x}-{}", self.begin.get(), self.end.get(), Hex(&self.sum))?;
        f.write_str(self.codec.extension())
    }
}

impl FromStr for FragmentName {
    type Err = InvalidFragmentName;

    fn from_str(name: &str) -> Result<Self, InvalidFragmentName> {
        let dot = name.rfind('.').unwrap_or(name.len());
        let (stem, extension) = name.split_at_checked(dot).unwrap_or((name, ""));
        let mut fields = stem.split('-');
        let (Some(begin), Some(end), Some(sum), None) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err(InvalidFragmentName::Fields { found: stem.split('-').count() });
        };
        let codec = Codec::from_extension(extension)
            .ok_or_else(|| InvalidFragmentName::Extension { found: short(extension) })?;
        let (begin, end) = (parse_offset(begin)?, parse_offset(end)?);
        if begin > end {
            return Err(InvalidFragmentName::Backward { begin, end });
        }
        Ok(Self { begin, end, sum: parse_sum(sum)?, codec })
    }
}

/// A file name that names no fragment.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum InvalidFragmentName {
    /// There are other than three fields before the extension.
    Fields {
        /// How many there are.
        found: usize,
    },
    /// An offset is not 1 to 16 hexadecimal digits, or too large.
    Offset {
        /// The field, cut to 40 characters.
        found: String,
    },
    /// The sum is not 40 hexadecimal digits.
    Sum {
        /// The field, cut to 40 characters.
        found: String,
    },
    /// The extension belongs to no codec.
    Extension {
        /// The extension, cut to 40 characters.
        found: String,
    },
    /// The end lies before the begin.
    Backward {
        /// The begin.
        begin: Offset,
        /// The end.
        end: Offset,
    },
}

impl fmt::Display for InvalidFragmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fields { found } => write!(f, "a fragment's name has 3 fields, not {found}"),
            Self::Offset { found } => write!(f, "{found:?} is not an offset in hexadecimal"),
            Self::Sum { found } => write!(f, "{found:?} is not a SHA-1 in hexadecimal"),
            Self::Extension { found } => write!(f, "{found:?} is the extension of no codec"),
            Self::Backward { begin, end } => write!(f, "the end {end} lies before the begin {begin}"),
        }
    }
}

impl std::error::Error for InvalidFragmentName {}

impl Codec {
    /// Returns the extension of a fragment's name.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::None => ".raw",
            Self::Gzip => ".gz",
            Self::Zstandard => ".zst",
            Self::Snappy => ".sz",
            Self::GzipOffloadDecompression => "",
        }
    }

    /// Returns the codec that an extension stands for, in any case.
    pub fn from_extension(extension: &str) -> Option<Self> {
        Some(match extension.to_ascii_lowercase().as_str() {
            ".raw" => Self::None,
            ".gz" | ".gzip" => Self::Gzip,
            ".zst" | ".zstandard" => Self::Zstandard,
            ".sz" | ".snappy" => Self::Snappy,
            "" | ".gzod" => Self::GzipOffloadDecompression,
            _ => return None,
        })
    }

    /// Returns the codec's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstandard => "zstd",
            Self::Snappy => "snappy",
            Self::GzipOffloadDecompression => "gzip-offload",
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Shows bytes as hexadecimal digits.
pub(super) struct Hex<'a>(pub(super) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn parse_offset(field: &str) -> Result<Offset, InvalidFragmentName> {
    // `from_str_radix` alone would take a sign.
    let digits = (1..=16).contains(&field.len()) && field.bytes().all(|b| b.is_ascii_hexdigit());
    let value = if digits { u64::from_str_radix(field, 16).ok() } else { None };
    value.and_then(Offset::new).ok_or_else(|| InvalidFragmentName::Offset { found: short(field) })
}

fn parse_sum(field: &str) -> Result<[u8; 20], InvalidFragmentName> {
    let invalid = || InvalidFragmentName::Sum { found: short(field) };
    let (pairs, []) = field.as_bytes().as_chunks::<2>() else { return Err(invalid()) };
    let byte = |pair: &[u8; 2]| -> Option<u8> {
        let [high, low] = pair.map(|digit| char::from(digit).to_digit(16));
        Some((high? * 16 + low?) as u8)
    };
    let bytes = pairs.iter().map(byte).collect::<Option<Vec<_>>>();
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(invalid)
}

fn short(field: &str) -> String {
    field.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUM: &str = "0102030405060708090a0b0c0d0e0f1011121314";

    fn parse(name: &str) -> Result<FragmentName, InvalidFragmentName> {
        name.parse()
    }

    #[test]
    fn names_are_built_as_gazette_builds_them_and_parse_back() {
        let sum = std::array::from_fn(|index| index as u8 + 1);
        for (codec, extension) in [
            (Codec::None, ".raw"),
            (Codec::Gzip, ".gz"),
            (Codec::Zstandard, ".zst"),
            (Codec::Snappy, ".sz"),
            (Codec::GzipOffloadDecompression, ""),
        ] {
            let (begin, end) = (Offset::new(1_234_567_890).unwrap(), Offset::MAX);
            let name = FragmentName { begin, end, sum, codec };
            assert_eq!(name.to_string(), format!("00000000499602d2-7fffffffffffffff-{SUM}{extension}"));
            assert_eq!(parse(&name.to_string()), Ok(name));
        }
    }

    #[test]
    fn an_empty_fragment_has_an_all_zero_sum() {
        let at = Offset::new(7).unwrap();
        let empty = FragmentName { begin: at, end: at, sum: [0; 20], codec: Codec::None };
        let name = format!("0000000000000007-0000000000000007-{}.raw", "0".repeat(40));
        assert_eq!((empty.to_string(), parse(&name)), (name, Ok(empty)));
    }

    #[test]
    fn extensions_are_known_in_any_case_and_spelling() {
        for (extension, codec) in [
            (".raw", Codec::None),
            (".RAW", Codec::None),
            (".gz", Codec::Gzip),
            (".Gzip", Codec::Gzip),
            (".zst", Codec::Zstandard),
            (".ZSTANDARD", Codec::Zstandard),
            (".sz", Codec::Snappy),
            (".sNaPpY", Codec::Snappy),
            ("", Codec::GzipOffloadDecompression),
            (".gzod", Codec::GzipOffloadDecompression),
        ] {
            assert_eq!(parse(&format!("0-A-{SUM}{extension}")).map(|name| name.codec), Ok(codec));
        }
        assert_eq!(parse(&format!("0-a-{}.raw", SUM.to_uppercase())), parse(&format!("00-0A-{SUM}.raw")));
    }

    #[test]
    fn what_names_no_fragment_is_refused_with_the_reason() {
        use InvalidFragmentName as Invalid;
        let offset = |found: &str| Invalid::Offset { found: found.into() };
        let sum = |found: &str| Invalid::Sum { found: found.into() };
        for (name, expected) in [
            (String::new(), Invalid::Fields { found: 1 }),
            ("0-1.raw".into(), Invalid::Fields { found: 2 }),
            (format!("0-1-2-{SUM}.raw"), Invalid::Fields { found: 4 }),
            (format!("0--1-{SUM}.raw"), Invalid::Fields { found: 4 }),
            (format!("-1-{SUM}.raw"), offset("")),
            (format!("0x1-2-{SUM}.raw"), offset("0x1")),
            (format!("+1-2-{SUM}.raw"), offset("+1")),
            (format!("0-8000000000000000-{SUM}.raw"), offset("8000000000000000")),
            (format!("0-00000000000000001-{SUM}.raw"), offset("00000000000000001")),
            (
                format!("2-1-{SUM}.raw"),
                Invalid::Backward { begin: Offset::new(2).unwrap(), end: Offset::new(1).unwrap() },
            ),
            ("0-1-.raw".into(), sum("")),
            ("0-1-0102.raw".into(), sum("0102")),
            (format!("0-1-{SUM}0.raw"), sum(SUM)),
            (format!("0-1-{SUM}00.raw"), sum(SUM)),
            (format!("0-1-{}zz.raw", &SUM[2..]), sum(&format!("{}zz", &SUM[2..]))),
            (format!("0-1-{}\u{e9}.raw", &SUM[2..]), sum(&format!("{}\u{e9}", &SUM[2..]))),
            (format!("0-1-{SUM}.lz4"), Invalid::Extension { found: ".lz4".into() }),
            (format!("0-1-{SUM}.raw.tmp"), Invalid::Extension { found: ".tmp".into() }),
            (format!("0-1-{SUM}."), Invalid::Extension { found: ".".into() }),
        ] {
            assert_eq!(parse(&name), Err(expected), "{name:?}");
        }
    }
}
