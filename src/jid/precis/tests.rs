//! precis-core and precis-profiles are asked what they make of a text. They have the registry's own tables.

#![allow(clippy::unwrap_used, clippy::panic)]

use precis_core::profile::Rules;
use precis_core::{DerivedPropertyValue, FreeformClass, IdentifierClass, StringClass};
use precis_profiles::{OpaqueString, UsernameCaseMapped};
use proptest::prelude::*;
use unicode_normalization::is_nfkc;
use unicode_properties::GeneralCategoryGroup;

use super::*;

/// Whether a code point is younger than the registry, or unassigned.
fn is_younger(c: char) -> bool {
    FreeformClass::default().get_value_from_char(c) == DerivedPropertyValue::Unassigned
}

/// A class of the registry, and what is younger judged by its category.
struct Today<C>(C, fn(char) -> bool);

impl<C: StringClass> StringClass for Today<C> {
    fn get_value_from_char(&self, c: char) -> DerivedPropertyValue {
        match self.0.get_value_from_char(c) {
            DerivedPropertyValue::Unassigned if self.1(c) => DerivedPropertyValue::PValid,
            value => value,
        }
    }

    fn get_value_from_codepoint(&self, cp: u32) -> DerivedPropertyValue {
        char::from_u32(cp).map_or(DerivedPropertyValue::Disallowed, |c| self.get_value_from_char(c))
    }
}

fn identifiers() -> Today<IdentifierClass> {
    use GeneralCategory::*;
    Today(IdentifierClass::default(), |c| {
        let letters = matches!(
            c.general_category(),
            UppercaseLetter
                | LowercaseLetter
                | OtherLetter
                | ModifierLetter
                | DecimalNumber
                | NonspacingMark
                | SpacingMark
        );
        letters && c != '\u{180f}' && is_nfkc(&c.to_string())
    })
}

fn freeform() -> Today<FreeformClass> {
    use GeneralCategoryGroup::*;
    Today(FreeformClass::default(), |c| {
        let shapes = matches!(c.general_category_group(), Letter | Mark | Number | Punctuation | Symbol);
        shapes && c != '\u{180f}'
    })
}

/// What `UsernameCaseMapped` makes of a text, if anything.
fn username(text: &str) -> Option<String> {
    let rules = UsernameCaseMapped::new();
    let narrow = rules.width_mapping_rule(text).unwrap();
    identifiers().allows(&narrow).ok()?;
    let lower = rules.case_mapping_rule(narrow).unwrap();
    let normal = rules.normalization_rule(lower).unwrap().into_owned();
    // precis-profiles wants marks at the end alone, but RFC 5893 has no rule for those within a word. And
    // it takes for left-to-right what is younger than its table, such as these letters of Arabic.
    let mark = |c: char| c.general_category() == GeneralCategory::NonspacingMark;
    let written = normal.chars().enumerate().filter(|(at, c)| *at == 0 || !mark(*c)).map(|(_, c)| match c {
        '\u{10ed9}'..='\u{10eee}' => '\u{628}',
        _ => c,
    });
    rules.directionality_rule(written.collect::<String>()).ok()?;
    Some(normal)
}

/// What `OpaqueString` makes of a text, if anything.
fn opaque(text: &str) -> Option<String> {
    let rules = OpaqueString::new();
    freeform().allows(text).ok()?;
    let spaced = rules.additional_mapping_rule(text).unwrap();
    Some(rules.normalization_rule(spaced).unwrap().into_owned())
}

/// Whether a context rule may find more here than the registry does: today's tables know younger scripts,
/// and how these join.
fn is_news(text: &str) -> bool {
    let joins = |c| matches!(c, '\u{84f}' | '\u{856}'..='\u{858}' | '\u{1885}'..='\u{1886}' | '\u{1bac}'..='\u{1bad}' | '\u{a9bd}');
    text.contains(['\u{200c}', '\u{200d}', '\u{375}', '\u{5f3}', '\u{5f4}', '\u{30fb}'])
        && text.chars().any(|c| is_younger(c) || joins(c))
}

/// Both say the same, but where the tables have news: then what was an address stays that address.
fn agrees(text: &str) {
    for (ours, theirs) in
        [(username_case_mapped(text).ok(), username(text)), (opaque_string(text).ok(), opaque(text))]
    {
        assert!(ours == theirs || theirs.is_none() && is_news(text), "{text:?}: {ours:?}, not {theirs:?}");
    }
}

#[test]
fn each_code_point_is_what_the_registry_says() {
    let (identifiers, freeform) = (identifiers(), freeform());
    let mut buffer = [0; 4];
    for c in '\0'..=char::MAX {
        let text = &*c.encode_utf8(&mut buffer);
        let unfit = |class| disallowed(text, class).is_some();
        // ASCII is for `super` to judge, but for the spaces.
        assert_eq!(unfit(is_identifier), identifiers.allows(text).is_err(), "{c:?}");
        assert_eq!(unfit(is_freeform), freeform.allows(text).is_err(), "{c:?}");
        if !is_younger(c) {
            agrees(text);
        }
    }
}

/// Beside what rules look at: letters of both directions, digits, marks, viramas, joiners, signs.
#[test]
fn each_code_point_in_context() {
    use GeneralCategory::*;
    for c in '\0'..=char::MAX {
        // Ideographs and syllables by the thousand are alike.
        let many = matches!(
            c,
            '\u{3400}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}' | '\u{17000}'..='\u{18cff}' | '\u{20000}'..='\u{3ffff}'
        ) && u32::from(c) % 32 != 0;
        if many || matches!(c.general_category(), Unassigned | PrivateUse) {
            continue;
        }
        for text in [
            format!("a{c}1"),
            format!("l\u{b7}{c}"),
            format!("{c}\u{b7}l"),
            format!("{c}\u{301}\u{3a3}"),
            format!("\u{5d0}{c}"),
            format!("{c}\u{5d0}"),
            format!("\u{628}{c}\u{5bc}1"),
            format!("\u{628}1{c}"),
            format!("\u{628}\u{661}{c}"),
            format!("{c}\u{200d}"),
            format!("{c}\u{200c}"),
            format!("{c}\u{200c}\u{628}"),
            format!("\u{628}\u{200c}{c}"),
            format!("\u{628}{c}\u{200c}\u{628}"),
            format!("\u{628}\u{200c}{c}\u{628}"),
            format!("\u{375}{c}"),
            format!("{c}\u{375}"),
            format!("{c}\u{5f3}"),
            format!("{c}\u{5f4}"),
            format!("\u{30fb}{c}"),
            format!("\u{661}{c}"),
            format!("\u{6f1}{c}"),
        ] {
            agrees(&text);
        }
    }
}

/// Marks are part of what they stand on (RFC 5893 §2, conditions 2 and 3), as Thaana and pointed Hebrew need it.
#[test]
fn marks_within_a_word() {
    for text in ["\u{78b}\u{7a8}\u{788}\u{7ac}\u{780}\u{7a8}", "\u{5e9}\u{5b8}\u{5dc}\u{5d5}\u{5b9}\u{5dd}"] {
        assert_eq!(username_case_mapped(text).unwrap(), text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn texts_are_what_the_crates_make_of_them(text in crate::jid::tests::odd(), wild in ".{1,6}") {
        agrees(&text);
        agrees(&wild);
    }

    #[test]
    fn words_from_right_to_left(text in "[\u{5d0}\u{628}\u{627}\u{78b}a1\u{661}\u{6f1}\u{301}\u{5b8}\u{7a8}\u{200c}\u{94d}\u{1734}\u{847}.!-]{1,8}") {
        agrees(&text);
    }
}
