//! Text and bytes that are nearly right: a seed, edited in a few places.

use proptest::{
    collection::vec,
    prelude::{BoxedStrategy, Just, Strategy, any, prop_oneof},
    sample::{Index, select},
};

/// Edits of one input at most. More of them leave nothing that a parser would get into.
const MAX_EDITS: usize = 4;

/// What parsers stumble over: delimiters, escapes, other spellings of the same, numbers at the edge, names of this machine.
pub(crate) const STUMBLES: [&str; 48] = [
    "",
    " ",
    "\t",
    "\n",
    "\r\n",
    "\0",
    "\u{7f}",
    "\u{a0}",
    "\u{202e}",
    "\u{feff}",
    "ä",
    "İ",
    "\u{212a}",
    "🦀",
    ".",
    "..",
    "-",
    "_",
    ":",
    ":443",
    "@",
    "user@",
    "/",
    "//",
    "\\",
    "?",
    "#",
    "%",
    "%00",
    "%2e",
    "*",
    ",",
    ";",
    "\"",
    "'",
    "{",
    "}",
    "[::1]",
    "127.0.0.1",
    "0x7f",
    "xn--",
    "localhost",
    "null",
    "-1",
    "+1",
    "1e400",
    "18446744073709551616",
    "9223372036854775807",
];

/// The same below the level of text: broken UTF-8, a varint without end, a length beyond the message.
const BINARY_STUMBLES: [&[u8]; 8] = [
    b"\xff",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80",
    b"\x0a\xff\xff\xff\xff\x0f",
    b"\x0a\x00",
    b"\x0b\x0b\x0b",
    b"\xfa\x3f\x02hi",
];

#[derive(Debug, Clone, Copy)]
enum Kind {
    Insert,
    Cut,
    Repeat,
    Truncate,
}

#[derive(Debug, Clone)]
struct Edit<T> {
    kind: Kind,
    at: Index,
    until: Index,
    stumble: Vec<T>,
}

/// Text near one of `seeds`, and now and then any text at all.
pub fn text(seeds: &[&str]) -> BoxedStrategy<String> {
    let seeds: Vec<Vec<char>> = seeds.iter().map(|seed| seed.chars().collect()).collect();
    let stumbles = STUMBLES.iter().map(|text| text.chars().collect()).collect();
    prop_oneof![
        9 => near(seeds, stumbles).prop_map(|chars| chars.into_iter().collect()),
        1 => "\\PC{0,80}",
    ]
    .boxed()
}

/// Bytes near one of `seeds`, and now and then any bytes at all.
pub fn bytes(seeds: &[&[u8]]) -> BoxedStrategy<Vec<u8>> {
    let texts = STUMBLES.iter().map(|text| text.as_bytes());
    let stumbles = texts.chain(BINARY_STUMBLES).map(<[u8]>::to_vec).collect();
    prop_oneof![
        9 => near(seeds.iter().map(|seed| seed.to_vec()).collect(), stumbles),
        1 => vec(any::<u8>(), 0..80),
    ]
    .boxed()
}

fn near<T>(seeds: Vec<Vec<T>>, stumbles: Vec<Vec<T>>) -> BoxedStrategy<Vec<T>>
where
    T: Clone + std::fmt::Debug + 'static,
{
    let kind = prop_oneof![
        Just(Kind::Insert),
        Just(Kind::Cut),
        Just(Kind::Repeat),
        Just(Kind::Truncate),
    ];
    let edit =
        (kind, any::<Index>(), any::<Index>(), select(stumbles)).prop_map(|(kind, at, until, stumble)| {
            Edit {
                kind,
                at,
                until,
                stumble,
            }
        });
    (select(seeds), vec(edit, 0..=MAX_EDITS))
        .prop_map(|(seed, edits)| edits.into_iter().fold(seed, |input, edit| edit.apply(input)))
        .boxed()
}

impl<T: Clone> Edit<T> {
    fn apply(self, mut input: Vec<T>) -> Vec<T> {
        let at = self.at.index(input.len() + 1);
        let end = at + self.until.index(input.len() - at + 1);
        match self.kind {
            Kind::Insert => {
                input.splice(at..at, self.stumble);
            }
            Kind::Cut => {
                input.drain(at..end);
            }
            Kind::Repeat => {
                let again: Vec<T> = input.get(at..end).unwrap_or_default().to_vec();
                input.splice(at..at, again);
            }
            Kind::Truncate => input.truncate(at),
        }
        input
    }
}
