//! What text that somebody typed may contain.

/// Control characters, line breaks of any kind, and those that turn the direction of a text around.
pub fn is_invisible(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
