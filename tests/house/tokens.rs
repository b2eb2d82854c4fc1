//! Rust sources as tokens: words, `::` and single punctuation marks, without comments and literals.
//!
//! Good enough to find paths, attributes and macro calls in code that compiles; it is not a parser.

/// One token and the line where it stands, counted from 1.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
}

/// Splits a source into tokens.
pub(crate) fn tokens(source: &str) -> Vec<Token> {
    let mut scanner = Scanner { chars: source.chars().collect(), at: 0, line: 1 };
    let mut found = Vec::new();
    while let Some(token) = scanner.next_token() {
        found.push(token);
    }
    found
}

struct Scanner {
    chars: Vec<char>,
    at: usize,
    line: usize,
}

impl Scanner {
    fn peek(&self, ahead: usize) -> char {
        self.chars.get(self.at + ahead).copied().unwrap_or('\0')
    }

    fn advance(&mut self, count: usize) {
        for _ in 0..count {
            self.line += usize::from(self.peek(0) == '\n');
            self.at += 1;
        }
    }

    fn next_token(&mut self) -> Option<Token> {
        while self.at < self.chars.len() {
            let line = self.line;
            let here = self.peek(0);
            let text = match (here, self.peek(1)) {
                ('/', '/') => {
                    while self.at < self.chars.len() && self.peek(0) != '\n' {
                        self.advance(1);
                    }
                    continue;
                }
                ('/', '*') => {
                    self.skip_block_comment();
                    continue;
                }
                ('"', _) => {
                    self.skip_string();
                    continue;
                }
                ('\'', _) => {
                    self.skip_char_or_lifetime();
                    continue;
                }
                (':', ':') => {
                    self.advance(2);
                    "::".to_owned()
                }
                _ if is_word(here) => {
                    let word = self.word();
                    let hashes = (0..256).take_while(|ahead| self.peek(*ahead) == '#').count();
                    if matches!(word.as_str(), "r" | "br" | "cr") && self.peek(hashes) == '"' {
                        self.skip_raw_string(hashes);
                        continue;
                    }
                    word
                }
                _ => {
                    self.advance(1);
                    if here.is_whitespace() {
                        continue;
                    }
                    here.to_string()
                }
            };
            return Some(Token { text, line });
        }
        None
    }

    fn word(&mut self) -> String {
        let begin = self.at;
        while is_word(self.peek(0)) {
            self.advance(1);
        }
        self.chars[begin..self.at].iter().collect()
    }

    fn skip_block_comment(&mut self) {
        let mut depth = 0;
        while self.at < self.chars.len() {
            match (self.peek(0), self.peek(1)) {
                ('/', '*') => depth += 1,
                ('*', '/') => depth -= 1,
                _ => {
                    self.advance(1);
                    continue;
                }
            }
            self.advance(2);
            if depth == 0 {
                return;
            }
        }
    }

    fn skip_string(&mut self) {
        self.advance(1);
        while self.at < self.chars.len() && self.peek(0) != '"' {
            self.advance(if self.peek(0) == '\\' { 2 } else { 1 });
        }
        self.advance(1);
    }

    fn skip_raw_string(&mut self, hashes: usize) {
        self.advance(hashes + 1);
        let closes =
            |scanner: &Self| scanner.peek(0) == '"' && (1..=hashes).all(|ahead| scanner.peek(ahead) == '#');
        while self.at < self.chars.len() && !closes(self) {
            self.advance(1);
        }
        self.advance(hashes + 1);
    }

    fn skip_char_or_lifetime(&mut self) {
        if self.peek(1) == '\\' {
            self.advance(3);
            while self.at < self.chars.len() && self.peek(0) != '\'' {
                self.advance(1);
            }
            self.advance(1);
        } else if self.peek(2) == '\'' {
            self.advance(3);
        } else {
            self.advance(1);
            self.word();
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Returns every path that begins at `tokens[at]`, with groups spelled out: `a::{b, c::d}` gives `a::b` and
/// `a::c::d`.
pub(crate) fn paths_at(tokens: &[Token], at: usize) -> Vec<Vec<String>> {
    let mut at = at;
    tree(tokens, &mut at)
}

fn tree(tokens: &[Token], at: &mut usize) -> Vec<Vec<String>> {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let mut prefix = Vec::new();
    loop {
        if text(*at) == "{" {
            let mut all = Vec::new();
            *at += 1;
            while !matches!(text(*at), "}" | "") {
                if text(*at) == "," {
                    *at += 1;
                    continue;
                }
                let before = *at;
                for path in tree(tokens, at) {
                    all.push(prefix.iter().cloned().chain(path).collect());
                }
                // `as name`, or something that is no path: step over it.
                while !matches!(text(*at), "," | "}" | "") || *at == before {
                    *at += 1;
                }
            }
            *at += 1;
            return all;
        }
        prefix.push(text(*at).to_owned());
        *at += 1;
        if text(*at) != "::" {
            return vec![prefix];
        }
        *at += 1;
    }
}

#[test]
fn comments_and_literals_leave_no_tokens() {
    let source = r##"a /* b /* c */ */ "d\"e" r#"f"g"# 'h' '\'' '\u{1f}' b"i" &'j x // k"##;
    let texts: Vec<_> = tokens(source).into_iter().map(|token| token.text).collect();
    assert_eq!(texts, ["a", "b", "&", "x"]);
}

#[test]
fn groups_are_spelled_out() {
    let found = paths_at(&tokens("crate::{a::{self, B as C}, d};"), 0);
    let found: Vec<_> = found.iter().map(|path| path.join("::")).collect();
    assert_eq!(found, ["crate::a::self", "crate::a::B", "crate::d"]);
}
