//! Texts of which every line that a pattern matches holds at least one, so that a search for many patterns can first look
//! for texts, which is many times faster.

use regex_syntax::hir::{
    Hir, HirKind,
    literal::{ExtractKind, Extractor},
};

/// Texts for one pattern at most: a search for few of them looks at many bytes at once, one for many does not.
const MAX_TEXTS: usize = 16;

/// Parts of a pattern that are tried as a beginning, and parts that are looked at from there.
const MAX_PARTS: (usize, usize) = (64, 8);

/// Texts that say less than this are in too many lines to help; see [`weight`].
const MIN_WEIGHT: usize = 6;

/// `None`: there are none, or they would be found in too many lines.
pub(crate) fn necessary_literals(pattern: &Hir) -> Option<Vec<Vec<u8>>> {
    best_of(pattern).filter(|texts| weight_of_all(texts) >= MIN_WEIGHT)
}

fn best_of(hir: &Hir) -> Option<Vec<Vec<u8>>> {
    match hir.kind() {
        HirKind::Literal(_) | HirKind::Class(_) => beginnings(hir),
        HirKind::Capture(group) => best_of(&group.sub),
        HirKind::Repetition(repetition) if repetition.min > 0 => best_of(&repetition.sub),
        HirKind::Concat(parts) => {
            let tails = (0..parts.len().min(MAX_PARTS.0)).flat_map(|start| {
                let tail = &parts[start..parts.len().min(start + MAX_PARTS.1)];
                [beginnings(&Hir::concat(tail.to_vec())), best_of(&parts[start])]
            });
            tails.flatten().max_by_key(|texts| score(texts))
        }
        HirKind::Alternation(parts) => {
            let mut all = Vec::new();
            for part in parts {
                all.extend(best_of(part)?);
                if all.len() > MAX_TEXTS {
                    return None;
                }
            }
            Some(all)
        }
        HirKind::Empty | HirKind::Look(_) | HirKind::Repetition(_) => None,
    }
}

/// What a match of `hir` begins with.
fn beginnings(hir: &Hir) -> Option<Vec<Vec<u8>>> {
    let mut extractor = Extractor::new();
    extractor
        .kind(ExtractKind::Prefix)
        .limit_class(8)
        .limit_repeat(4)
        .limit_literal_len(16)
        .limit_total(MAX_TEXTS);
    let texts = extractor.extract(hir);
    Some(texts.literals()?.iter().map(|literal| literal.as_bytes().to_vec()).collect())
}

/// Long and few is good.
fn score(texts: &[Vec<u8>]) -> isize {
    let (weight, count) = (weight_of_all(texts), texts.len().max(1));
    isize::try_from(4 * weight).unwrap_or(isize::MAX) - count.ilog2() as isize
}

/// No text at all weighs nothing: a class without characters gives none.
fn weight_of_all(texts: &[Vec<u8>]) -> usize {
    texts.iter().map(|text| weight(text)).min().unwrap_or(0)
}

/// Digits, blanks and punctuation are in every line of a kernel.
fn weight(text: &[u8]) -> usize {
    text.iter().map(|byte| if byte.is_ascii_alphabetic() || *byte >= 0x80 { 2 } else { 1 }).sum()
}

#[cfg(test)]
mod tests {
    use crate::Pattern;

    use super::*;

    fn of(pattern: &str) -> Option<Vec<String>> {
        let texts = necessary_literals(Pattern::new(pattern).unwrap().regular())?;
        Some(texts.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect())
    }

    #[test]
    fn texts_that_a_match_must_hold_are_found_wherever_they_stand() {
        let table: [(&str, Option<&[&str]>); 12] = [
            ("Kernel panic", Some(&["Kernel panic"])),
            (r"^\[[\d \.]{12}\] reboot: Power [Dd]own\r?$", Some(&["] reboot: Power "])),
            (r"ring .* timeout", Some(&[" timeout"])),
            (r"(foobar|quux+) \d", Some(&["foobar", "quux"])),
            (r"(?:abc)+$", Some(&["abc"])),
            (r"(?:abc)?$", None),
            (r"\d+\.\d+", None),
            (".*", None),
            ("", None),
            ("GOOD|.", None),
            (r"(?<!NOT )GOOD", Some(&["GOOD"])),
            (r"(\w+) again \1", Some(&[" again "])),
        ];
        for (pattern, expected) in table {
            let expected = expected.map(|e| e.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>());
            assert_eq!(of(pattern), expected, "{pattern}");
        }
    }
}
