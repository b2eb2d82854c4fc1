//! How a bench shows what it measured more than once.
//!
//! *Invariants.* The spread is always there.
//!
//! *Does not* measure.

/// Shows the middle of `values`, with the smallest and the largest.
pub(crate) fn figure(values: &[f64], digits: usize) -> String {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let [low, middle, high] = [values[0], values[values.len() / 2], values[values.len() - 1]];
    format!("{middle:.digits$} ({low:.digits$} to {high:.digits$})")
}
