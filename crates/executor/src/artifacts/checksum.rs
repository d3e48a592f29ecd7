//! The checksums that a server gives beside a file: `Repr-Digest` and `Content-Digest` (RFC 9530), `Digest` (RFC 3230),
//! `Content-MD5` (RFC 1864), and Amazon S3's `x-amz-checksum-sha256`.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use md5::{Digest, Md5};
use reqwest::header::HeaderMap;
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use super::source::Sha;

/// What the whole file must hash to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Expected {
    sha256: Vec<Vec<u8>>,
    md5: Vec<Vec<u8>>,
}

impl Expected {
    /// What an answer says of the file. `part`: its body is a part of it, and what is said of the body says nothing.
    pub fn of(headers: &HeaderMap, part: bool) -> Self {
        let mut expected = Self::default();
        let whole = ["repr-digest", "digest", "x-amz-checksum-sha256"];
        let body: &[&str] = if part { &[] } else { &["content-digest", "content-md5"] };
        for name in whole.iter().chain(body) {
            for value in headers.get_all(*name).iter().filter_map(|v| v.to_str().ok()) {
                expected.read(name, value);
            }
        }
        expected
    }

    fn read(&mut self, header: &str, value: &str) {
        match header {
            // That of an upload in parts is a checksum of checksums; its count of parts makes it no base64.
            "x-amz-checksum-sha256" => self.add("sha-256", value),
            "content-md5" => self.add("md5", value),
            _ => {
                for (algorithm, sum) in value.split(',').filter_map(|one| one.split_once('=')) {
                    let sum = sum.trim();
                    let sum = sum.strip_prefix(':').and_then(|s| s.strip_suffix(':')).unwrap_or(sum);
                    self.add(&algorithm.trim().to_ascii_lowercase(), sum);
                }
            }
        }
    }

    fn add(&mut self, algorithm: &str, sum: &str) {
        // What cannot be read is of no use, but no reason to refuse the file.
        let Ok(sum) = STANDARD.decode(sum.trim()) else { return };
        match (algorithm, sum.len()) {
            ("sha-256", 32) => self.sha256.push(sum),
            ("md5", 16) => self.md5.push(sum),
            _ => {}
        }
    }

    /// What is said of the same file in an earlier answer counts too.
    pub fn and(mut self, earlier: &Self) -> Self {
        self.sha256.extend(
            earlier.sha256.iter().filter(|sum| !self.sha256.contains(sum)).cloned().collect::<Vec<_>>(),
        );
        self.md5
            .extend(earlier.md5.iter().filter(|sum| !self.md5.contains(sum)).cloned().collect::<Vec<_>>());
        self
    }

    /// Whether anything is said.
    pub fn is_empty(&self) -> bool {
        self.sha256.is_empty() && self.md5.is_empty()
    }

    /// Reads a file from its start: its SHA-256, or which checksum it does not have. Blocks.
    pub fn check(&self, file: &mut File) -> io::Result<Result<Sha, &'static str>> {
        file.seek(SeekFrom::Start(0))?;
        let mut sha = Context::new(&SHA256);
        let mut md5 = (!self.md5.is_empty()).then(Md5::new);
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let length = file.read(&mut buffer)?;
            if length == 0 {
                break;
            }
            let piece = buffer.get(..length).unwrap_or_default();
            sha.update(piece);
            if let Some(md5) = &mut md5 {
                md5.update(piece);
            }
        }
        let sha = Sha::from_digest(sha.finish().as_ref());
        let md5 = md5.map(|md5| md5.finalize().to_vec()).unwrap_or_default();
        if self.sha256.iter().any(|sum| sum.as_slice() != sha.bytes()) {
            return Ok(Err("SHA-256"));
        }
        if self.md5.iter().any(|sum| *sum != md5) {
            return Ok(Err("MD5"));
        }
        Ok(Ok(sha))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::{super::freshness::tests::headers, *};

    /// Of "hello\n".
    const SHA: &str = "WJG1tSLV3whtD/CxEPvZ0hu0/HFjrzTQgoai6Eb2vgM=";
    const MD5: &str = "sZRqySSS0jR8YjW00mERhA==";

    fn check(lines: &[String], part: bool, bytes: &[u8]) -> Result<Sha, &'static str> {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Expected::of(&headers(&lines), part).check(&mut file).unwrap()
    }

    #[test]
    fn each_kind_of_checksum_is_compared() {
        for line in [
            format!("Repr-Digest: sha-256=:{SHA}:"),
            format!("Repr-Digest: sha-512=:AAAA:, sha-256=:{SHA}:"),
            format!("Content-Digest: sha-256=:{SHA}:"),
            format!("Digest: SHA-256={SHA}"),
            format!("Digest: md5={MD5},sha-256={SHA}"),
            format!("x-amz-checksum-sha256: {SHA}"),
            format!("Content-MD5: {MD5}"),
        ] {
            assert_eq!(
                check(std::slice::from_ref(&line), false, b"hello\n"),
                Ok(Sha::of(b"hello\n")),
                "{line}"
            );
            assert!(check(std::slice::from_ref(&line), false, b"hellO\n").is_err(), "{line}");
        }
    }

    #[test]
    fn what_is_said_of_a_part_or_cannot_be_read_says_nothing_of_the_file() {
        let lines = [format!("Content-MD5: {MD5}"), format!("Content-Digest: sha-256=:{SHA}:")];
        assert!(check(&lines, true, b"other").is_ok());
        let lines =
            [format!("x-amz-checksum-sha256: {SHA}-12"), "Digest: sha-256=x".into(), "Digest: ,=".into()];
        assert!(check(&lines, false, b"other").is_ok());
    }
}
