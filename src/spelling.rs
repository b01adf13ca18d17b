//! What a misspelt word was meant to be. Pure; below all that reads what people write.

/// `did you mean "x"?` when one of the candidates is near, otherwise all of them, if they fit a line.
pub(crate) fn suggest(word: &str, candidates: &[&str]) -> String {
    const SHOWN: usize = 16;
    if let Some(near) = closest(word, candidates.iter().copied()) {
        return format!("did you mean \"{near}\"?");
    }
    match candidates {
        [] => String::new(),
        [only] => format!("allowed: {only}"),
        many => match many.split_at_checked(SHOWN) {
            Some((first, others)) if !others.is_empty() => format!("one of {}, …", first.join(", ")),
            _ => format!("one of {}", many.join(", ")),
        },
    }
}

/// The candidate that `word` was most likely meant to be: it starts with the word, or at most a third of the
/// characters (and at least one) differ. Upper and lower case, `-` and `_` count as the same.
pub(crate) fn closest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    // Operators' words are short; a giant key is not worth a quadratic comparison.
    const LONGEST: usize = 64;
    let fold = |text: &str| -> Vec<char> {
        text.chars().take(LONGEST + 1).map(|c| if c == '-' { '_' } else { c.to_ascii_lowercase() }).collect()
    };
    let word = fold(word);
    let allowed = (word.len() / 3).max(1);
    if word.len() > LONGEST {
        return None;
    }
    // Three characters say what is meant: `prio` is `priority`.
    let begun = |candidate: &[char]| word.len() >= 3 && candidate.starts_with(&word);
    candidates
        .into_iter()
        .map(|candidate| (fold(candidate), candidate))
        .map(|(folded, candidate)| {
            (if begun(&folded) { allowed } else { distance(&word, &folded) }, candidate)
        })
        .filter(|(steps, _)| *steps <= allowed)
        .min_by_key(|(steps, _)| *steps)
        .map(|(_, candidate)| candidate)
}

/// Edits between two words: insert, delete, replace, or swap two neighbours (optimal string alignment).
fn distance(a: &[char], b: &[char]) -> usize {
    // Row `i` of the table, and the two rows above it.
    let mut row: Vec<usize> = (0..=b.len()).collect();
    let mut above: Vec<usize> = Vec::new();
    for (i, from) in a.iter().enumerate() {
        let mut next = Vec::with_capacity(row.len());
        next.push(i + 1);
        for (j, to) in b.iter().enumerate() {
            let cell = |row: &[usize], at: usize| row.get(at).copied().unwrap_or(usize::MAX - 1);
            let mut steps =
                (cell(&row, j) + usize::from(from != to)).min(cell(&row, j + 1) + 1).min(cell(&next, j) + 1);
            let swapped = i > 0 && j > 0 && a.get(i - 1) == Some(to) && b.get(j - 1) == Some(from);
            if swapped {
                steps = steps.min(cell(&above, j - 1) + 1);
            }
            next.push(steps);
        }
        above = std::mem::replace(&mut row, next);
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggestions_are_near_or_complete() {
        assert_eq!(suggest("stiky", &["sticky", "random"]), "did you mean \"sticky\"?");
        assert_eq!(suggest("Round-Robin", &["sticky", "round_robin"]), "did you mean \"round_robin\"?");
        assert_eq!(suggest("prio", &["name", "priority"]), "did you mean \"priority\"?");
        assert_eq!(suggest("xyz", &["sticky", "random"]), "one of sticky, random");
        assert_eq!(suggest("xyz", &["a"; 17]), format!("one of {}…", "a, ".repeat(16)));
        assert_eq!(closest(&"x".repeat(1000), ["xx"]), None);
        assert_eq!(distance(&['a', 'b'], &[]), 2);
        assert_eq!(distance(&[], &['a']), 1);
        assert_eq!(distance(&['n', 'm', 'a', 'e'], &['n', 'a', 'm', 'e']), 1);
        assert_eq!(distance(&['k', 'i', 't', 't', 'e', 'n'], &['s', 'i', 't', 't', 'i', 'n', 'g']), 3);
    }
}
