//! Draws what was found over time.
//!
//! *Invariants.* The same figures give the same picture.
//!
//! *Does not* measure.

use std::path::Path;

use plotters::prelude::*;

use crate::{Load, Sample};

const WIDTH: u32 = 960;
const HEIGHT: u32 = 560;
const FONT: &str = "sans-serif";

/// Draws the ratios of `samples` into the file `path`.
pub(crate) fn draw(path: &Path, load: &Load, samples: &[Sample]) {
    try_draw(path, load, samples).expect("a picture");
}

fn try_draw(path: &Path, load: &Load, samples: &[Sample]) -> Result<(), Box<dyn std::error::Error>> {
    let most = samples.iter().flat_map(Sample::ratios).fold(1.0, f64::max);
    let root = SVGBackend::new(path, (WIDTH, HEIGHT)).into_drawing_area();
    root.fill(&WHITE)?;
    let title = format!("RocksDB of {} MiB, overwritten {} times at random", load.bytes >> 20, load.times);
    let mut chart = ChartBuilder::on(&root)
        .caption(title, (FONT, 22))
        .margin(16)
        .x_label_area_size(48)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..load.times as f64, (0.8..most * 1.5).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("bytes overwritten, in times of the database")
        .y_desc("bytes of the log, in times of the live files")
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| format!("{y:.0}"))
        .label_style((FONT, 15))
        .axis_desc_style((FONT, 16))
        .light_line_style(RGBColor(235, 235, 235))
        .bold_line_style(RGBColor(205, 205, 205))
        .draw()?;

    // What is kept is drawn wider, and first: it shows beside what is read where both are the same.
    let lines = [
        ("log kept, by the rule of the reference", 3, RGBColor(250, 180, 90), 7),
        ("read by a recovery, by that rule", 2, RGBColor(170, 40, 30), 2),
        ("log kept", 1, RGBColor(120, 190, 245), 7),
        ("read by a recovery", 0, RGBColor(0, 70, 140), 2),
    ];
    for (name, which, colour, width) in lines {
        let style = colour.stroke_width(width);
        let points = samples.iter().map(|sample| (sample.overwritten, sample.ratios()[which]));
        chart
            .draw_series(LineSeries::new(points, style))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 24, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::MiddleRight)
        .legend_area_size(32)
        .background_style(WHITE)
        .border_style(RGBColor(205, 205, 205))
        .label_font((FONT, 15))
        .draw()?;
    root.present()?;
    Ok(())
}
