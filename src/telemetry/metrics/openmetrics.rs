//! The text format of OpenMetrics 1.0, of what is gathered anyway: as Prometheus's own, but with exemplars, of which the crate
//! `prometheus` knows nothing.

use std::collections::HashSet;
use std::fmt::{self, Display, Formatter, Write};

use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};

use super::Metrics;
use super::exemplars::{Exemplar, KeptExemplars};

/// Units that a name may end in. The format asks for them to be told.
const UNITS: [&str; 2] = ["seconds", "bytes"];

impl Metrics {
    /// All metrics in the text format of OpenMetrics.
    pub fn encode_openmetrics(&self) -> String {
        // First: an exemplar is kept after it was counted, so it is among what is gathered then.
        let exemplars = self.inner.exemplars.kept();
        let mut text = String::new();
        let families = self.gather();
        let names: HashSet<&str> = families.iter().map(MetricFamily::name).collect();
        for family in &families {
            let is_counter = family.get_field_type() == MetricType::COUNTER;
            let bare = family.name().strip_suffix("_total").filter(|_| is_counter);
            // The counter is named without what its samples end in. Where that is another's name, it cannot be called a counter.
            let (name, kind) = match bare.filter(|bare| !names.contains(bare)) {
                Some(bare) => (bare, "counter"),
                None => (family.name(), kind(family)),
            };
            // A `String` takes everything.
            let _ = write_family(&mut text, (name, kind), family, &exemplars);
        }
        text.push_str("# EOF\n");
        text
    }
}

/// Of what is no counter, or must not be called one.
fn kind(family: &MetricFamily) -> &'static str {
    match family.get_field_type() {
        MetricType::GAUGE => "gauge",
        MetricType::HISTOGRAM => "histogram",
        MetricType::SUMMARY => "summary",
        MetricType::COUNTER | MetricType::UNTYPED => "unknown",
    }
}

fn write_family(
    text: &mut String,
    (name, kind): (&str, &str),
    family: &MetricFamily,
    exemplars: &KeptExemplars,
) -> fmt::Result {
    writeln!(text, "# TYPE {name} {kind}")?;
    if let Some(unit) = UNITS.iter().find(|unit| name.strip_suffix(**unit).is_some_and(|rest| rest.ends_with('_'))) {
        writeln!(text, "# UNIT {name} {unit}")?;
    }
    writeln!(text, "# HELP {name} {}", Escaped(family.help()))?;
    for metric in family.get_metric() {
        let labels = Labels(metric.get_label(), None);
        match family.get_field_type() {
            MetricType::COUNTER => {
                writeln!(text, "{}{labels} {}", family.name(), Number(metric.get_counter().get_value()))?
            }
            MetricType::GAUGE => writeln!(text, "{name}{labels} {}", Number(metric.get_gauge().get_value()))?,
            MetricType::HISTOGRAM => write_histogram(text, name, metric, exemplars.of(family, metric))?,
            // There are none.
            MetricType::SUMMARY | MetricType::UNTYPED => {}
        }
    }
    Ok(())
}

fn write_histogram(text: &mut String, name: &str, metric: &Metric, exemplars: &[Option<Exemplar>]) -> fmt::Result {
    let (histogram, labels) = (metric.get_histogram(), metric.get_label());
    let buckets = histogram.get_bucket().iter().map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()));
    let all = (f64::INFINITY, histogram.get_sample_count());
    let finite = buckets.filter(|(bound, _)| bound.is_finite());
    for (index, (bound, count)) in finite.chain([all]).enumerate() {
        write!(text, "{name}_bucket{} {count}", Labels(labels, Some(bound)))?;
        if let Some(Some(Exemplar { labels, value, at })) = exemplars.get(index) {
            write!(text, " # {{{labels}}} {value} {at:.3}")?;
        }
        text.push('\n');
    }
    let labels = Labels(labels, None);
    writeln!(text, "{name}_count{labels} {}", histogram.get_sample_count())?;
    writeln!(text, "{name}_sum{labels} {}", Number(histogram.get_sample_sum()))
}

/// In braces, if there are any; with the upper bound of a bucket.
struct Labels<'a>(&'a [LabelPair], Option<f64>);

impl Display for Labels<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Labels(labels, bound) = *self;
        if labels.is_empty() && bound.is_none() {
            return Ok(());
        }
        f.write_char('{')?;
        for (index, label) in labels.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{}=\"{}\"", label.name(), Escaped(label.value()))?;
        }
        let comma = if labels.is_empty() { "" } else { "," };
        match bound {
            None => {}
            Some(f64::INFINITY) => write!(f, "{comma}le=\"+Inf\"")?,
            // Never without a point: readers compare bounds as texts.
            Some(bound) => write!(f, "{comma}le=\"{bound:?}\"")?,
        }
        f.write_char('}')
    }
}

struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|character| match character {
            '\\' => f.write_str("\\\\"),
            '"' => f.write_str("\\\""),
            '\n' => f.write_str("\\n"),
            character => f.write_char(character),
        })
    }
}

struct Number(f64);

impl Display for Number {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            f64::INFINITY => f.write_str("+Inf"),
            f64::NEG_INFINITY => f.write_str("-Inf"),
            number => Display::fmt(&number, f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_numbers_have_the_form_that_is_asked_for() {
        let mut label = LabelPair::default();
        label.set_name("cluster".to_owned());
        label.set_value("a\"b\\c\nd".to_owned());
        let labels = [label];
        assert_eq!(Labels(&labels, Some(1.0)).to_string(), r#"{cluster="a\"b\\c\nd",le="1.0"}"#);
        assert_eq!(Labels(&[], Some(f64::INFINITY)).to_string(), r#"{le="+Inf"}"#);
        assert_eq!(Labels(&[], None).to_string(), "");
        assert_eq!([1.0, 0.5, f64::INFINITY, f64::NAN].map(|n| Number(n).to_string()), ["1", "0.5", "+Inf", "NaN"]);
    }
}
