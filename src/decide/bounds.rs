//! What is stored is cut to what its schema has room for.
//!
//! Annotations and reasons come from people and may be long. A status that the API server refuses would stop
//! everything that comes after it, so nothing that is stored may depend on their length.

use crate::api::incident::Incident;

/// The longest explanation in a status.
const LONGEST_TEXT: usize = 1024;

/// The longest text of one piece of evidence.
const LONGEST_EVIDENCE: usize = 512;

/// Cuts every text of an incident to its bound.
pub(super) fn bound(incident: &mut Incident) {
    cut(&mut incident.because, LONGEST_TEXT);
    cut(&mut incident.account, LONGEST_TEXT);
    if let Some(paged) = &mut incident.paged {
        cut(paged, LONGEST_TEXT);
    }
    if let Some(closing) = &mut incident.closing {
        cut(&mut closing.summary, LONGEST_TEXT);
    }
    for evidence in &mut incident.evidence {
        cut(&mut evidence.text, LONGEST_EVIDENCE);
    }
}

fn cut(text: &mut String, characters: usize) {
    if let Some((end, _)) = text.char_indices().nth(characters) {
        text.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn texts_are_cut_at_characters() {
        let mut text = "äöü".to_owned();
        cut(&mut text, 2);
        assert_eq!(text, "äö");
        cut(&mut text, 2);
        assert_eq!(text, "äö");
    }
}
