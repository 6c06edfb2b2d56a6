//! Just enough of the ustar format (POSIX.1-1988) to make an image layer of a few small files: pure.

use anyhow::{Context as _, ensure};

/// Everything in an archive comes in blocks, in bytes.
const BLOCK: usize = 512;

/// Where the header's checksum is, in bytes.
const CHECKSUM: std::ops::Range<usize> = 148..156;

/// An archive with these files (path, content), readable by all, of the beginning of time: equal files, equal
/// bytes.
///
/// # Errors
/// A path is longer than the format's 100 bytes.
pub(crate) fn archive(files: &[(&str, &str)]) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for (path, content) in files {
        bytes.extend(header(path, content.len())?);
        bytes.extend(content.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    }
    bytes.resize(bytes.len() + 2 * BLOCK, 0);
    Ok(bytes)
}

fn header(path: &str, length: usize) -> anyhow::Result<[u8; BLOCK]> {
    ensure!(path.len() <= 100, "the path {path} does not fit a tar header");
    let length = format!("{length:011o}");
    let fields: [(usize, &[u8]); 8] = [
        (0, path.as_bytes()),
        (100, b"0000644\0"), // mode
        (108, b"0000000\0"), // owner
        (116, b"0000000\0"), // group
        (124, length.as_bytes()),
        (136, b"00000000000"), // time
        (156, b"0"),           // a file
        (257, b"ustar\x0000"),
    ];
    let mut block = [0; BLOCK];
    // The checksum is taken with itself as blanks.
    write(&mut block, CHECKSUM.start, b"        ")?;
    for (offset, value) in fields {
        write(&mut block, offset, value)?;
    }
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    write(&mut block, CHECKSUM.start, format!("{sum:06o}\0 ").as_bytes())?;
    Ok(block)
}

fn write(block: &mut [u8; BLOCK], offset: usize, value: &[u8]) -> anyhow::Result<()> {
    let field = block
        .get_mut(offset..offset + value.len())
        .context("a tar field does not fit")?;
    field.copy_from_slice(value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archive_is_blocks_with_a_valid_checksum() {
        let bytes = archive(&[("hello.txt", "hello\n")]).unwrap();
        assert_eq!(bytes.len(), 4 * BLOCK);
        let stored = std::str::from_utf8(&bytes[148..154]).unwrap();
        let stored = u32::from_str_radix(stored, 8).unwrap();
        let sum: u32 = bytes[..BLOCK]
            .iter()
            .enumerate()
            .map(|(at, &byte)| u32::from(if CHECKSUM.contains(&at) { b' ' } else { byte }))
            .sum();
        assert_eq!(stored, sum);
        assert_eq!(&bytes[BLOCK..BLOCK + 6], b"hello\n");
    }

    #[test]
    fn archive_path_that_does_not_fit_is_refused() {
        assert!(archive(&[("a".repeat(101).as_str(), "")]).is_err());
    }
}
