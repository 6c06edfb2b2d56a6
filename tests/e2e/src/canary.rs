//! Finds secrets where they must not be, whole or in pieces, however they are written. Pure.
//!
//! [`Canaries`] holds the secrets of a run; [`Canaries::find`] says which of them shows in an artefact, in which form and
//! where. It never shows the secret itself: what a test prints is a log, too.

mod forms;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use uuid::Uuid;

use forms::forms;

/// The shortest piece of a secret that counts: 96 random bits where the secret is base64. Shorter ones occur by chance.
const FRAGMENT: usize = 16;
/// What is looked up: pieces of a fragment, as long as a word of the machine.
const GRAM: usize = size_of::<u64>();
/// Grams of a secret that are remembered, one of so many: then each fragment, wherever it begins, contains one of them.
const STRIDE: usize = FRAGMENT - GRAM + 1;
/// Most grams of an artefact are in no secret, and one bit of this table says so.
const FILTER_BITS: usize = 1 << 20;

/// The secrets of a run, in all forms in which they could show.
pub struct Canaries {
    texts: Vec<Text>,
    /// Where a gram is: number of the text, offset in it.
    grams: HashMap<u64, Vec<(usize, usize)>>,
    filter: Vec<u64>,
    /// Secrets often have texts in common, such as the header of a token: once is enough.
    known: HashMap<Vec<u8>, usize>,
}

/// How much of a secret must show.
#[derive(Clone, Copy)]
enum Counts {
    Whole,
    EveryPiece,
}

/// A secret, or a part of it, in one form.
struct Text {
    secret: Arc<str>,
    form: &'static str,
    bytes: Vec<u8>,
    /// How much of it must show in a row.
    least: usize,
}

/// A secret that shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leak {
    /// Which.
    pub secret: Arc<str>,
    /// How it is written.
    pub form: &'static str,
    /// Where in the artefact.
    pub at: usize,
    /// How many bytes in a row.
    pub length: usize,
}

impl fmt::Display for Leak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            secret,
            form,
            at,
            length,
        } = self;
        write!(f, "{length} bytes of {secret}, as {form}, at {at}")
    }
}

impl Default for Canaries {
    fn default() -> Self {
        Self {
            texts: Vec::new(),
            grams: HashMap::new(),
            filter: vec![0; FILTER_BITS / 64],
            known: HashMap::new(),
        }
    }
}

impl Canaries {
    /// A new secret that nothing else contains, and that now is looked for.
    pub fn plant(&mut self, secret: &str) -> String {
        let text = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        self.add_bytes(secret, text.as_bytes());
        text
    }

    /// A secret of which every piece counts.
    ///
    /// # Panics
    /// It is shorter than a piece that counts.
    pub fn add_bytes(&mut self, secret: &str, bytes: &[u8]) {
        assert!(bytes.len() >= FRAGMENT, "{secret} is too short to be found");
        self.add(secret, bytes, Counts::EveryPiece);
    }

    /// A token. Of a JWT every piece of the signature counts. Header and claims are public in parts: an issuer, a
    /// namespace; they count as a whole.
    pub fn add_token(&mut self, secret: &str, token: &str) {
        let parts: Vec<&str> = token.trim().split('.').collect();
        let [header, claims, signature] = parts[..] else {
            return self.add_bytes(secret, token.trim().as_bytes());
        };
        for part in [header, claims] {
            self.add(secret, part.as_bytes(), Counts::Whole);
        }
        self.add(secret, signature.as_bytes(), Counts::EveryPiece);
        // Binary, as a careless dump would show it.
        if let Ok(decoded) = URL_SAFE_NO_PAD.decode(signature) {
            self.add(secret, &decoded, Counts::EveryPiece);
        }
    }

    /// A private key on P-256 in PKCS#8, as PEM. Its number counts; what is around it is alike in all keys.
    ///
    /// # Panics
    /// It is something else.
    pub fn add_key_pem(&mut self, secret: &str, pem: &str) {
        /// An `OCTET STRING` of 32 bytes (RFC 5915 section 3).
        const NUMBER: [u8; 2] = [0x04, 0x20];
        let base64: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let der = STANDARD.decode(base64).unwrap_or_default();
        let at = der.windows(2).position(|window| window == NUMBER);
        let number = at.and_then(|at| der.get(at + 2..at + 34));
        self.add_bytes(secret, number.unwrap_or_default());
    }

    /// The first secret that shows in an artefact.
    pub fn find(&self, artefact: &[u8]) -> Option<Leak> {
        (0..).zip(artefact.windows(GRAM)).find_map(|(at, window)| {
            let gram = gram(window)?;
            if !self.may_hold(gram) {
                return None;
            }
            let candidates = self.grams.get(&gram)?;
            candidates
                .iter()
                .find_map(|&(text, offset)| self.texts.get(text)?.shows(artefact, at, offset))
        })
    }

    fn add(&mut self, secret: &str, bytes: &[u8], counts: Counts) {
        let secret: Arc<str> = secret.into();
        for (form, bytes) in forms(bytes) {
            let least = match counts {
                Counts::Whole => bytes.len(),
                Counts::EveryPiece => FRAGMENT.min(bytes.len()),
            };
            if least < GRAM || self.known.get(&bytes).is_some_and(|known| *known <= least) {
                continue;
            }
            self.known.insert(bytes.clone(), least);
            self.remember(Text {
                secret: Arc::clone(&secret),
                form,
                bytes,
                least,
            });
        }
    }

    fn remember(&mut self, text: Text) {
        let number = self.texts.len();
        let last = text.bytes.len() - GRAM;
        // Of what counts as a whole one gram is enough.
        let offsets: Vec<usize> = if text.least == text.bytes.len() {
            vec![last / 2]
        } else {
            (0..=last).step_by(STRIDE).collect()
        };
        for offset in offsets {
            let Some(gram) = text.bytes.get(offset..offset + GRAM).and_then(gram) else {
                continue;
            };
            self.grams.entry(gram).or_default().push((number, offset));
            let (word, bit) = place(gram);
            if let Some(word) = self.filter.get_mut(word) {
                *word |= bit;
            }
        }
        self.texts.push(text);
    }

    fn may_hold(&self, gram: u64) -> bool {
        let (word, bit) = place(gram);
        self.filter.get(word).is_some_and(|word| word & bit != 0)
    }
}

impl Text {
    /// Whether enough of it shows around a gram that is at `at` in the artefact and at `offset` in this.
    fn shows(&self, artefact: &[u8], at: usize, offset: usize) -> Option<Leak> {
        let (before, from) = self.bytes.split_at(offset);
        let (seen_before, seen_from) = artefact.split_at(at);
        let same = |pair: &(&u8, &u8)| pair.0 == pair.1;
        let left = before
            .iter()
            .rev()
            .zip(seen_before.iter().rev())
            .take_while(same)
            .count();
        let right = from.iter().zip(seen_from).take_while(same).count();
        (left + right >= self.least).then(|| Leak {
            secret: Arc::clone(&self.secret),
            form: self.form,
            at: at - left,
            length: left + right,
        })
    }
}

fn gram(window: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(window.try_into().ok()?))
}

/// Word and bit of the filter (multiplicative hashing).
fn place(gram: u64) -> (usize, u64) {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let hash = gram.wrapping_mul(GOLDEN) >> (64 - FILTER_BITS.trailing_zeros());
    (usize::try_from(hash / 64).unwrap_or_default(), 1 << (hash % 64))
}

#[cfg(test)]
mod tests;
