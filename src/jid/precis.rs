//! PRECIS (RFC 8264), as much of it as addresses need: two string classes, and the profile of RFC 8265
//! that goes with each.
//!
//! The registry of derived properties is not here, only the algorithm that it was made with (RFC 8264
//! §8), on the tables that the program has in any case. What the registry knows (Unicode 6.3) has the
//! property that it has there, as the tests ask precis-core for each code point; what is younger is judged
//! by the same rules.

use std::iter::once;

use idna_adapter::{
    Adapter, FIRST_BC_MASK, JoiningTypeMask, LAST_RTL_MASK, LEFT_OR_DUAL_JOINING_MASK, MIDDLE_RTL_MASK,
    RIGHT_OR_DUAL_JOINING_MASK, RTL_MASK,
};
use unicode_normalization::char::decompose_compatible;
use unicode_normalization::{UnicodeNormalization, is_nfc};
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

use super::Malformed;

/// `UsernameCaseMapped` once, in the order of RFC 8265 §3.3.2.
#[cold]
pub(super) fn username_case_mapped(text: &str) -> Result<String, Malformed> {
    let narrow = mapped(text, |c| once(narrow(c)));
    if let Some(c) = disallowed(&narrow, is_identifier) {
        return Err(Malformed::LocalCharacter(c));
    }
    // Not `str::to_lowercase`, to which the last letter of a word may be another one.
    let normal = composed(mapped(&narrow, char::to_lowercase));
    match keeps_direction(&normal) {
        true => Ok(normal),
        false => Err(Malformed::LocalName),
    }
}

/// `OpaqueString` once, in the order of RFC 8265 §4.2.2.
#[cold]
pub(super) fn opaque_string(text: &str) -> Result<String, Malformed> {
    if let Some(c) = disallowed(text, is_freeform) {
        return Err(Malformed::ResourceCharacter(c));
    }
    let spaced = |c: char| match c.general_category() {
        GeneralCategory::SpaceSeparator => ' ',
        _ => c,
    };
    Ok(composed(mapped(text, |c| once(spaced(c)))))
}

/// Each character mapped. Few become longer.
fn mapped<I: Iterator<Item = char>>(text: &str, to: impl Fn(char) -> I) -> String {
    let mut all = String::with_capacity(text.len());
    all.extend(text.chars().flat_map(to));
    all
}

/// NFC. Nearly every text is in that form.
fn composed(text: String) -> String {
    match is_nfc(&text) {
        true => text,
        false => text.nfc().collect(),
    }
}

/// The width mapping (RFC 8264 §5.2.1). Of this block only Hangul and the macron come to more than their
/// other width, and to nothing that an identifier may have.
fn narrow(c: char) -> char {
    match c {
        '\u{3000}' | '\u{ff01}'..='\u{ffee}' => decomposed(c).unwrap_or(c),
        _ => c,
    }
}

/// The one character that a character stands for, if it is one.
fn decomposed(c: char) -> Option<char> {
    let (mut last, mut count) = (None, 0u8);
    decompose_compatible(c, |part| {
        last = Some(part);
        count = count.saturating_add(1);
    });
    last.filter(|_| count == 1)
}

/// The first character that a string class does not allow where it stands.
///
/// No context rule looks at more than a few neighbours, and those about the text as a whole are asked
/// once: a stanza full of middle dots must not cost milliseconds.
fn disallowed(text: &str, class: fn(char) -> bool) -> Option<char> {
    let (mut arabic, mut extended, mut kana) = (false, false, None);
    for (at, c) in text.char_indices() {
        let before = || text.get(..at).unwrap_or_default().chars().rev();
        let after = || text.get(at..).unwrap_or_default().chars().skip(1);
        let allowed = match c {
            '!'..='~' => true,
            // RFC 5892 A.1, A.2: joiners.
            '\u{200c}' => {
                follows_virama(before())
                    || joins(before(), LEFT_OR_DUAL_JOINING_MASK)
                        && joins(after(), RIGHT_OR_DUAL_JOINING_MASK)
            }
            '\u{200d}' => follows_virama(before()),
            // A.3: the middle dot of Catalan.
            '\u{b7}' => before().next() == Some('l') && after().next() == Some('l'),
            // A.4 to A.6: signs of a script, beside that script (and its signs).
            '\u{375}' => after().next().is_some_and(is_greek),
            '\u{5f3}' | '\u{5f4}' => before().next().is_some_and(is_hebrew),
            // A.7: some Hiragana, Katakana or Han, wherever it stands.
            '\u{30fb}' => *kana.get_or_insert_with(|| text.chars().any(is_kana_or_han)),
            // A.8, A.9: one kind of digits or the other.
            '\u{660}'..='\u{669}' => {
                arabic = true;
                !extended
            }
            '\u{6f0}'..='\u{6f9}' => {
                extended = true;
                !arabic
            }
            _ => class(c),
        };
        if !allowed {
            return Some(c);
        }
    }
    None
}

/// `IdentifierClass` (RFC 8264 §4.2) for what is not ASCII and has no context rule.
fn is_identifier(c: char) -> bool {
    use GeneralCategory::*;
    match exception(c) {
        Some(valid) => valid,
        None => {
            // LetterDigits (§9.1) without HasCompat (§9.17).
            matches!(
                c.general_category(),
                LowercaseLetter
                    | UppercaseLetter
                    | OtherLetter
                    | DecimalNumber
                    | ModifierLetter
                    | NonspacingMark
                    | SpacingMark
            ) && !has_compat(c)
        }
    }
}

/// `FreeformClass` (RFC 8264 §4.3), likewise: everything with a shape, and spaces.
fn is_freeform(c: char) -> bool {
    use GeneralCategory::*;
    match exception(c) {
        Some(valid) => valid,
        None => !matches!(
            c.general_category(),
            Control | Format | Surrogate | PrivateUse | Unassigned | LineSeparator | ParagraphSeparator
        ),
    }
}

/// What is valid in both classes, or in neither, whatever its category.
fn exception(c: char) -> Option<bool> {
    match c {
        // Exceptions (RFC 8264 §9.6).
        '\u{6fd}' | '\u{6fe}' | '\u{f0b}' | '\u{3007}' => Some(true),
        '\u{640}' | '\u{7fa}' | '\u{302e}' | '\u{302f}' | '\u{3031}'..='\u{3035}' | '\u{303b}' => Some(false),
        // OldHangulJamo (§9.9).
        '\u{1100}'..='\u{11ff}' | '\u{a960}'..='\u{a97c}' | '\u{d7b0}'..='\u{d7fb}' => Some(false),
        // PrecisIgnorableProperties (§9.13), where they are letters or marks.
        '\u{34f}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{3164}' => Some(false),
        '\u{fe00}'..='\u{fe0f}' | '\u{ffa0}' | '\u{e0000}'..='\u{e0fff}' => Some(false),
        _ => None,
    }
}

/// HasCompat (RFC 8264 §9.17): NFKC makes something else of it.
fn has_compat(c: char) -> bool {
    // Most characters come to themselves at once.
    decomposed(c) != Some(c) && !c.encode_utf8(&mut [0; 4]).nfkc().eq([c])
}

/// Whether there is a virama right before.
fn follows_virama(mut before: impl Iterator<Item = char>) -> bool {
    before.next().is_some_and(|c| Adapter::new().is_virama(c))
}

/// Whether the nearest character that is not transparent joins (RFC 5892 A.1).
fn joins(near: impl Iterator<Item = char>, mask: JoiningTypeMask) -> bool {
    /// A joiner with more marks beside it than this is no writing.
    const NEAR: usize = 8;
    let tables = Adapter::new();
    // Unicode has thought better of these two since the registry was made.
    let transparent = |c: &char| tables.joining_type(*c).is_transparent() || *c == '\u{1734}';
    let nearest = near.take(NEAR).find(|c| !transparent(c));
    nearest.is_some_and(|c| tables.joining_type(c).to_mask().intersects(mask) || c == '\u{847}')
}

/// Script=Greek. (What is unassigned in these ranges is refused in any case.)
fn is_greek(c: char) -> bool {
    matches!(
        c,
        '\u{370}'..='\u{373}'
            | '\u{375}'..='\u{37d}'
            | '\u{37f}'
            | '\u{384}'
            | '\u{386}'
            | '\u{388}'..='\u{3e1}'
            | '\u{3f0}'..='\u{3ff}'
            | '\u{1d26}'..='\u{1d2a}'
            | '\u{1d5d}'..='\u{1d61}'
            | '\u{1d66}'..='\u{1d6a}'
            | '\u{1dbf}'
            | '\u{1f00}'..='\u{1ffe}'
            | '\u{2126}'
            | '\u{ab65}'
            | '\u{10140}'..='\u{1018e}'
            | '\u{101a0}'
            | '\u{1d200}'..='\u{1d245}'
    )
}

/// Script=Hebrew.
fn is_hebrew(c: char) -> bool {
    matches!(c, '\u{591}'..='\u{5f4}' | '\u{fb1d}'..='\u{fb4f}')
}

/// Script=Hiragana, Katakana or Han.
fn is_kana_or_han(c: char) -> bool {
    matches!(
        c,
        '\u{2e80}'..='\u{2fd5}'
            | '\u{3005}'
            | '\u{3007}'
            | '\u{3021}'..='\u{3029}'
            | '\u{3038}'..='\u{303b}'
            | '\u{3041}'..='\u{3096}'
            | '\u{309d}'..='\u{309f}'
            | '\u{30a1}'..='\u{30fa}'
            | '\u{30fd}'..='\u{30ff}'
            | '\u{31f0}'..='\u{31ff}'
            | '\u{32d0}'..='\u{32fe}'
            | '\u{3300}'..='\u{3357}'
            | '\u{3400}'..='\u{4dbf}'
            | '\u{4e00}'..='\u{9fff}'
            | '\u{f900}'..='\u{fad9}'
            | '\u{ff66}'..='\u{ff6f}'
            | '\u{ff71}'..='\u{ff9d}'
            | '\u{16fe2}'..='\u{16fe3}'
            | '\u{16ff0}'..='\u{16ff6}'
            | '\u{1aff0}'..='\u{1b16f}'
            | '\u{1f200}'
            | '\u{20000}'..='\u{3ffff}'
    )
}

/// The directionality rule (RFC 8265 §3.3.2): where something is written from right to left, the Bidi
/// Rule (RFC 5893 §2). Its conditions 5 and 6 are about text in which nothing is.
fn keeps_direction(text: &str) -> bool {
    let class = |c: char| Adapter::new().bidi_class(c);
    let within = |c: char, mask| class(c).to_mask().intersects(mask);
    // Marks go with what they stand on. They are known by their category, for not all are in the table.
    let is_mark = |c: char| c.general_category() == GeneralCategory::NonspacingMark;
    if !text.chars().any(|c| within(c, RTL_MASK) && !is_mark(c)) {
        return true;
    }
    let mut letters = text.chars().filter(|c| !is_mark(*c));
    // Conditions 1 to 3.
    let first =
        text.chars().next().is_some_and(|c| !is_mark(c) && within(c, FIRST_BC_MASK) && within(c, RTL_MASK));
    let all = letters.clone().all(|c| within(c, MIDDLE_RTL_MASK));
    let last = letters.clone().next_back().is_some_and(|c| within(c, LAST_RTL_MASK));
    // Condition 4.
    let european = letters.clone().any(|c| class(c).is_european_number());
    first && all && last && !(european && letters.any(|c| class(c).is_arabic_number()))
}

#[cfg(test)]
mod tests;
