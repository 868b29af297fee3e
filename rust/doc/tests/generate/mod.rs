//! Rows of any shape, from a seed.

/// A small generator (xorshift64*).
pub struct Random(u64);

/// A member of a row: its name, the text between the key's quotes, and the value's text.
pub struct Member {
    pub name: String,
    pub key: String,
    pub value: String,
}

impl Member {
    pub fn is_vector(&self, vectors: &[&str]) -> bool {
        vectors.contains(&self.name.as_str()) || self.value.starts_with('{') || self.name.starts_with("$embed_")
    }
}

const NAMES: [&str; 10] =
    ["title", "year", "vector", "v2", "_hevlayer_upserted_at", "tags", "caf\u{e9}", "a\"b", "$embed_title", "\u{1}"];

impl Random {
    pub fn new(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        random.next();
        random
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    #[allow(clippy::cast_possible_truncation)]
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() >> 33) as usize % end.max(1)
    }

    #[allow(clippy::cast_possible_truncation)]
    pub fn byte(&mut self) -> u8 {
        self.next() as u8
    }

    /// One time in `times`.
    pub fn chance(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    pub fn id(&mut self) -> String {
        match self.below(4) {
            0 => self.below(100).to_string(),
            1 => self.next().to_string(),
            2 => self.pick(&[r#""a""#, r#""caf\u00e9""#, r#""\/""#, "\"\u{e9}\"", r#""""#]).to_owned(),
            _ => format!("\"doc-{}\"", self.below(1_000_000)),
        }
    }

    /// Members of distinct names, none called `id`.
    pub fn members(&mut self) -> Vec<Member> {
        let mut members: Vec<Member> = Vec::new();
        for index in 0..self.below(9) {
            let name = if self.chance(4) { format!("attribute_{index}") } else { self.pick(&NAMES).to_owned() };
            if members.iter().any(|member| member.name == name) {
                continue;
            }
            let key = self.key(&name);
            let is_vector = ["vector", "v2", "$embed_title"].contains(&name.as_str());
            let value = if is_vector && !self.chance(4) { self.vector() } else { self.value(2) };
            members.push(Member { name, key, value });
        }
        members
    }

    /// A name as a key, its first character written as an escape now and then.
    fn key(&mut self, name: &str) -> String {
        let mut key = String::new();
        for character in name.chars() {
            if matches!(character, '"' | '\u{1}') || self.chance(20) {
                key.push_str(&format!("\\u{:04x}", u32::from(character)));
            } else {
                key.push(character);
            }
        }
        key
    }

    /// A row's text with white space here and there and the id anywhere.
    pub fn row(&mut self, id: &str, members: &[Member]) -> String {
        let mut texts: Vec<String> = members
            .iter()
            .map(|member| format!("\"{}\"{}:{}{}", member.key, self.blank(), self.blank(), member.value))
            .collect();
        let place = self.below(texts.len() + 1);
        texts.insert(place, format!("\"id\":{id}"));
        if self.chance(3) {
            texts.push("\"$dist\":0.25".to_owned());
        }
        format!("{{{}}}", texts.join(if self.chance(2) { "," } else { " ,\n " }))
    }

    fn blank(&mut self) -> &'static str {
        self.pick(&["", "", "", " ", "\n\t"])
    }

    fn value(&mut self, depth: usize) -> String {
        match self.below(if depth == 0 { 7 } else { 10 }) {
            0 => self.pick(&["true", "false", "null"]).to_owned(),
            1 => self.next().cast_signed().wrapping_shr(u32::from(self.byte() % 64)).to_string(),
            2 => self.number(),
            3 | 4 => self.string(),
            5 => self
                .pick(&["18446744073709551615", "9223372036854775808", "-0", "1e400", "123456789012345678901234"])
                .to_owned(),
            6 => self
                .pick(&["\"0f8fad5b-d9cb-469f-a165-70867728950e\"", "\"2024-03-02T10:20:30Z\"", "[]", "[ ]"])
                .to_owned(),
            7 => {
                let kind = self.below(6);
                let count = self.below(4) + 1;
                let items: Vec<String> = (0..count)
                    .map(|_| match kind {
                        0 => self.pick(&["true", "false"]).to_owned(),
                        1 => self.below(100_000).to_string(),
                        2 => self.number(),
                        3 => self.string(),
                        4 => self.next().to_string(),
                        _ => self.value(depth - 1),
                    })
                    .collect();
                format!("[{}]", items.join(self.pick(&[",", ",", ", "])))
            }
            8 => self.sparse(),
            _ => format!("{{\"x\":{},\"y\":[{}]}}", self.value(depth - 1), self.value(depth - 1)),
        }
    }

    #[allow(clippy::cast_precision_loss)]
    fn number(&mut self) -> String {
        match self.below(8) {
            0 => format!("{}.0", self.below(1000)),
            1 => format!("{}e{}", self.below(100), self.below(30)),
            2 => format!("-{}E-{}", self.below(100), self.below(20)),
            3 => format!("{}.{}0", self.below(10), self.below(1000)),
            4 => format!("{:?}", f64::from_bits(self.next())).replace("NaN", "1.5").replace("inf", "2.5"),
            5 => self.next().to_string(),
            _ => format!("{}", (self.below(2_000_000) as f64 - 1e6) / 1024.0),
        }
    }

    fn string(&mut self) -> String {
        let mut text = String::from("\"");
        for _ in 0..self.below(12) {
            let part = self.pick(&[
                "a",
                "Hello",
                " ",
                "\u{e9}",
                "\u{1F600}",
                "\\n",
                "\\\"",
                "\\\\",
                "\\/",
                "\\u00e9",
                "\\u000a",
                "\\b",
                "\\u001f",
                "\\u001F",
                "\\ud83d\\ude00",
                "\u{7f}",
            ]);
            text.push_str(part);
        }
        text.push('"');
        text
    }

    fn component(&mut self, kind: usize) -> String {
        #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
        let single = match kind {
            0 => ((self.below(2_000_001) as f32) - 1e6) / 1e6,
            1 => (self.below(256) as f32) - 128.0,
            2 => ((self.below(2049) as f32) - 1024.0) / 512.0,
            3 => f32::from_bits((self.next() >> 32) as u32),
            _ => return self.number(),
        };
        let single = if single.is_finite() { single } else { 0.5 };
        serde_json::to_string(&single).expect("a number")
    }

    fn vector(&mut self) -> String {
        if self.chance(5) {
            return "\"zczMPc3MTD6amZk+\"".to_owned();
        }
        if self.chance(8) {
            return "\"zczMPc3MTD6amZk=\"".to_owned();
        }
        let kind = self.below(5);
        let dimensions = self.below(20) + 1;
        let bare = self.chance(3);
        let separator = self.pick(&[",", ",", ",", ", "]);
        let row = |random: &mut Self| {
            let components: Vec<String> = (0..dimensions)
                .map(|_| {
                    let text = random.component(kind);
                    if bare {
                        text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
                    } else {
                        text
                    }
                })
                .collect();
            format!("[{}]", components.join(separator))
        };
        if self.chance(4) {
            let rows: Vec<String> = (0..self.below(4) + 1).map(|_| row(self)).collect();
            return format!("[{}]", rows.join(","));
        }
        row(self)
    }

    fn sparse(&mut self) -> String {
        let kind = self.below(4);
        let mut dimension = 0;
        let weights: Vec<String> = (0..self.below(6) + 1)
            .map(|_| {
                dimension += self.below(1000) + 1;
                format!("\"{dimension}\":{}", self.component(kind))
            })
            .collect();
        format!("{{{}}}", weights.join(","))
    }
}
