//! The comments of a proto file, by what they stand above.

use std::collections::HashMap;

use prost_types::FileDescriptorProto;

/// Field numbers of `descriptor.proto`, of which the path to a comment is made.
const FILE_MESSAGE: i32 = 4;
const FILE_ENUM: i32 = 5;
const FILE_SERVICE: i32 = 6;
const CHILD: i32 = 2;

/// Comments by path.
pub(super) struct Comments<'a>(HashMap<&'a [i32], &'a str>);

impl<'a> Comments<'a> {
    pub(super) fn of(file: &'a FileDescriptorProto) -> Self {
        let locations = file.source_code_info.iter().flat_map(|info| &info.location);
        Self(
            locations
                .filter_map(|location| Some((&*location.path, location.leading_comments.as_deref()?)))
                .collect(),
        )
    }

    pub(super) fn message(&self, message: usize) -> String {
        self.at(&[FILE_MESSAGE, index(message)])
    }

    pub(super) fn field(&self, message: usize, field: usize) -> String {
        self.at(&[FILE_MESSAGE, index(message), CHILD, index(field)])
    }

    pub(super) fn enumeration(&self, enumeration: usize) -> String {
        self.at(&[FILE_ENUM, index(enumeration)])
    }

    pub(super) fn value(&self, enumeration: usize, value: usize) -> String {
        self.at(&[FILE_ENUM, index(enumeration), CHILD, index(value)])
    }

    pub(super) fn method(&self, service: usize, method: usize) -> String {
        self.at(&[FILE_SERVICE, index(service), CHILD, index(method)])
    }

    /// As one text: lines are broken where the source ends them, which means nothing.
    fn at(&self, path: &[i32]) -> String {
        let comment = self.0.get(path).copied().unwrap_or_default();
        let lines: Vec<&str> = comment
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        lines.join(" ")
    }
}

/// The first sentence, and all of it.
pub(super) fn text(comment: &str) -> (&str, &str) {
    let summary = comment.split_once(". ").map_or(comment, |(first, _rest)| first);
    (summary.trim_end_matches('.'), comment)
}

fn index(position: usize) -> i32 {
    i32::try_from(position).unwrap_or(i32::MAX)
}
