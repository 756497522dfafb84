//! The string literals of PromQL, read as Prometheus reads them.
//!
//! The parser stumbles over a backslash in a raw string and reads `\xff` as a character where Prometheus reads a byte. So
//! every literal is decoded here, and handed on in the one form that both read alike: in double quotes, with only what
//! must be escaped. Nothing else of an expression is touched.

use std::iter::Peekable;
use std::str::Chars;

/// An expression with all its string literals in the plain form and without comments. The error says what is wrong with one.
pub(super) fn plain(text: &str) -> Result<String, String> {
    rewritten(text, quote)
}

/// An expression with all its string literals empty and without comments, for who looks for words that stand outside.
pub(super) fn emptied(text: &str) -> Result<String, String> {
    rewritten(text, |_, emptied| emptied.push_str("\"\""))
}

fn rewritten(text: &str, write: impl Fn(&str, &mut String)) -> Result<String, String> {
    let mut written = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        match character {
            '"' | '\'' => write(&decode(&mut rest, character)?, &mut written),
            '`' => write(&raw(&mut rest)?, &mut written),
            // A quotation mark in a comment begins nothing.
            '#' => while rest.next_if(|next| *next != '\n').is_some() {},
            _ => written.push(character),
        }
    }
    Ok(written)
}

fn quote(literal: &str, plain: &mut String) {
    plain.push('"');
    for character in literal.chars() {
        match character {
            '\\' => plain.push_str("\\\\"),
            '"' => plain.push_str("\\\""),
            '\n' => plain.push_str("\\n"),
            '\r' => plain.push_str("\\r"),
            '\t' => plain.push_str("\\t"),
            _ => plain.push(character),
        }
    }
    plain.push('"');
}

/// In a raw string nothing is an escape.
fn raw(rest: &mut Peekable<Chars<'_>>) -> Result<String, String> {
    let mut literal = String::new();
    for character in rest.by_ref() {
        if character == '`' {
            return Ok(literal);
        }
        literal.push(character);
    }
    Err("unterminated raw string".to_owned())
}

/// Decodes the rest of a quoted string. Escapes may spell bytes, which together have to be UTF-8.
fn decode(rest: &mut Peekable<Chars<'_>>, mark: char) -> Result<String, String> {
    let mut bytes = Vec::new();
    loop {
        let mut push = |character: char| bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        match rest.next() {
            None => return Err(format!("unterminated quoted string {mark}")),
            Some('\n') => return Err("a quoted string holds a line break; write \\n, or use backticks".to_owned()),
            Some('\\') => match escape(rest, mark)? {
                Escaped::Character(character) => push(character),
                Escaped::Byte(byte) => bytes.push(byte),
            },
            Some(character) if character == mark => break,
            Some(character) => push(character),
        }
    }
    String::from_utf8(bytes).map_err(|_| "the escapes of a string spell bytes that are not UTF-8".to_owned())
}

enum Escaped {
    Character(char),
    Byte(u8),
}

fn escape(rest: &mut Peekable<Chars<'_>>, mark: char) -> Result<Escaped, String> {
    let character = rest.next().ok_or("escape sequence not terminated")?;
    let escaped = match character {
        'a' => '\u{7}',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        '\\' => '\\',
        _ if character == mark => mark,
        'x' => return number(rest, 0, 2, 16).and_then(byte),
        '0'..='7' => return number(rest, character.to_digit(8).unwrap_or_default(), 2, 8).and_then(byte),
        'u' => return number(rest, 0, 4, 16).and_then(point),
        'U' => return number(rest, 0, 8, 16).and_then(point),
        _ => return Err(format!("unknown escape sequence '\\{character}'; a raw string in backticks needs none")),
    };
    Ok(Escaped::Character(escaped))
}

fn number(rest: &mut Peekable<Chars<'_>>, begun: u32, digits: usize, base: u32) -> Result<u32, String> {
    (0..digits).try_fold(begun, |number, _| {
        let digit = rest.next().and_then(|character| character.to_digit(base));
        let digit = digit.ok_or("an escape sequence is too short")?;
        number
            .checked_mul(base)
            .map(|number| number + digit)
            .ok_or_else(|| "an escape sequence is too large".to_owned())
    })
}

fn byte(number: u32) -> Result<Escaped, String> {
    u8::try_from(number).map(Escaped::Byte).map_err(|_| "an escape sequence is above \\377".to_owned())
}

fn point(number: u32) -> Result<Escaped, String> {
    char::from_u32(number)
        .map(Escaped::Character)
        .ok_or_else(|| "an escape sequence is not a Unicode character".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_read_as_prometheus_reads_them() {
        let cases = [
            (r#"up{a="b"} # it's "x" `"#, r#"up{a="b"} "#),
            (r"up{code=~`5\d\d`}", r#"up{code=~"5\\d\\d"}"#),
            (r"up{a=`\`,b=`c`}", r#"up{a="\\",b="c"}"#),
            ("up{a=`\"\n`}", r#"up{a="\"\n"}"#),
            (r#"up{a='it\'s "x"'}"#, r#"up{a="it's \"x\""}"#),
            (r#"up{a="\x41\101\u0041\U00000041"}"#, r#"up{a="AAAA"}"#),
            (r#"up{a="\xc3\xa9\303\251é"}"#, r#"up{a="ééé"}"#),
            ("# `\nup", "\nup"),
        ];
        for (text, expected) in cases {
            assert_eq!(plain(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_prometheus_refuses_is_refused() {
        let cases = [
            r#"up{a="\d"}"#,
            r#"up{a="\'"}"#,
            r#"up{a='\"'}"#,
            r#"up{a="\xff"}"#,
            r#"up{a="\400"}"#,
            r#"up{a="\08"}"#,
            r#"up{a="\ud800"}"#,
            r#"up{a="\U00110000"}"#,
            "up{a=\"\n\"}",
            r#"up{a="b}"#,
            "up{a=`b}",
            r#"up{a="\"#,
        ];
        for text in cases {
            assert!(plain(text).is_err(), "{text}");
        }
    }
}
