//! The key of an object: a text with parts of the object's name in it (`sources.NAME.key`).

use std::str::FromStr;

/// A key template, taken apart. `{object}` is the object's name; `{dir}`, `{stem}` and `{ext}` are what stands before its last
/// slash, and around the last dot behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyTemplate(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Object,
    Bucket,
    Source,
    Dir,
    Stem,
    Ext,
}

/// Why a text is no key template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The text is empty: every object would have the same key.
    #[error("empty")]
    Empty,
    /// A `{` has no `}`.
    #[error("a `{{` that is not closed")]
    Unclosed,
    /// Braces hold a name that is no part of a key.
    #[error("something in braces that is not a part of a key")]
    UnknownPart,
}

impl FromStr for KeyTemplate {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (mut pieces, mut rest) = (Vec::new(), text);
        while let Some((literal, behind)) = rest.split_once('{') {
            let (name, behind) = behind.split_once('}').ok_or(TemplateError::Unclosed)?;
            if !literal.is_empty() {
                pieces.push(Piece::Literal(literal.to_owned()));
            }
            pieces.push(Piece::of(name).ok_or(TemplateError::UnknownPart)?);
            rest = behind;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Literal(rest.to_owned()));
        }
        if pieces.is_empty() { Err(TemplateError::Empty) } else { Ok(KeyTemplate(pieces)) }
    }
}

impl Piece {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "object" => Piece::Object,
            "bucket" => Piece::Bucket,
            "source" => Piece::Source,
            "dir" => Piece::Dir,
            "stem" => Piece::Stem,
            "ext" => Piece::Ext,
            _ => return None,
        })
    }
}

impl KeyTemplate {
    /// The key of this object; whether it may be one is for the caller.
    pub fn key(&self, source: &str, bucket: &str, object: &str) -> String {
        self.parts(source, bucket, object).collect()
    }

    /// The texts that the key of this object consists of, one behind the other.
    pub(super) fn parts<'a>(
        &'a self,
        source: &'a str,
        bucket: &'a str,
        object: &'a str,
    ) -> impl Iterator<Item = &'a str> {
        self.0.iter().map(move |piece| piece.text(source, bucket, object))
    }

    /// What stands before and behind the object's name in the keys of this bucket. None for a template from which a name cannot
    /// be told: made of parts of names, or of none, or of several.
    pub fn around_object(&self, source: &str, bucket: &str) -> Option<(String, String)> {
        let is_object = |piece: &Piece| *piece == Piece::Object;
        let at = self.0.iter().position(is_object)?;
        let is_fixed = |piece: &Piece| matches!(piece, Piece::Literal(_) | Piece::Bucket | Piece::Source);
        let (before, behind) = (self.0.get(..at)?, self.0.get(at + 1..)?);
        let text = |pieces: &[Piece]| pieces.iter().map(|piece| piece.text(source, bucket, "")).collect();
        before.iter().chain(behind).all(is_fixed).then(|| (text(before), text(behind)))
    }

    /// What every key of the template begins with; empty for one that begins with a part of a name.
    pub fn fixed_prefix(&self, source: &str) -> String {
        let is_fixed = |piece: &&Piece| matches!(piece, Piece::Literal(_) | Piece::Source);
        self.0.iter().take_while(is_fixed).map(|piece| piece.text(source, "", "")).collect()
    }
}

impl Piece {
    fn text<'a>(&'a self, source: &'a str, bucket: &'a str, object: &'a str) -> &'a str {
        match self {
            Piece::Literal(text) => text,
            Piece::Object => object,
            Piece::Bucket => bucket,
            Piece::Source => source,
            Piece::Dir => object.rsplit_once('/').map_or("", |(dir, _)| dir),
            Piece::Stem => stem_and_ext(object).0,
            Piece::Ext => stem_and_ext(object).1,
        }
    }
}

/// A name that begins with its only dot has no extension.
fn stem_and_ext(object: &str) -> (&str, &str) {
    let file = object.rsplit_once('/').map_or(object, |(_, file)| file);
    file.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()).unwrap_or((file, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(template: &str, object: &str) -> String {
        template
            .parse::<KeyTemplate>()
            .unwrap_or_else(|error| panic!("{template}: {error}"))
            .key("minio", "photos", object)
    }

    #[test]
    fn a_key_is_made_of_the_parts_of_the_name() {
        assert_eq!(key("{object}", "a/b c.tar.gz"), "a/b c.tar.gz");
        assert_eq!(key("{source}:{bucket}/{dir}|{stem}|{ext}", "a/b/c.tar.gz"), "minio:photos/a/b|c.tar|gz");
        assert_eq!(key("[{dir}|{stem}|{ext}]", "README"), "[|README|]");
        assert_eq!(key("[{dir}|{stem}|{ext}]", "x.d/.profile"), "[x.d|.profile|]");
        assert_eq!(key("img}{stem}", "{ext}.png"), "img}{ext}", "names are not looked into");
    }

    #[test]
    fn an_objects_name_can_be_told_from_a_key_if_it_is_in_it_whole() {
        let around = |template: &str| template.parse::<KeyTemplate>().expect(template).around_object("s3", "photos");
        assert_eq!(around("{object}"), Some((String::new(), String::new())));
        assert_eq!(around("{source}:{bucket}/{object}.v1"), Some(("s3:photos/".into(), ".v1".into())));
        let begins = |template: &str| template.parse::<KeyTemplate>().expect(template).fixed_prefix("s3");
        assert_eq!([begins("{source}:a/{object}b"), begins("{object}")], ["s3:a/", ""]);
        for none in ["{bucket}", "{dir}/{stem}", "{object}:{ext}", "{object}{object}"] {
            assert_eq!(around(none), None, "{none}");
        }
    }

    #[test]
    fn what_is_in_braces_is_known() {
        for (text, want) in [
            ("", TemplateError::Empty),
            ("{object", TemplateError::Unclosed),
            ("{name}", TemplateError::UnknownPart),
            ("{}", TemplateError::UnknownPart),
            ("{Object}", TemplateError::UnknownPart),
            ("{{object}}", TemplateError::UnknownPart),
        ] {
            assert_eq!(text.parse::<KeyTemplate>(), Err(want), "{text}");
        }
    }
}
