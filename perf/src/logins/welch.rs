/// The mean of some samples and how they scatter.
#[derive(Clone, Copy, Debug)]
struct Moments {
    count: f64,
    mean: f64,
    /// Of the samples, not of their mean.
    variance: f64,
}

/// By how many of its own standard errors two means differ (Welch's t): beyond 4.5 either way it is
/// no chance, whatever the samples' scatter.
pub(super) fn t(one: &[f64], other: &[f64]) -> f64 {
    let [one, other] = [one, other].map(moments);
    let error = (one.variance / one.count + other.variance / other.count).sqrt();
    match one.mean - other.mean {
        0.0 => 0.0,
        difference => difference / error,
    }
}

/// The samples without those above a bound: what the machine did meanwhile scatters most.
pub(super) fn below(samples: &[f64], bound: f64) -> Vec<f64> {
    samples.iter().copied().filter(|it| *it <= bound).collect()
}

/// So large a share of the samples is not above this.
pub(super) fn quantile(samples: impl IntoIterator<Item = f64>, share: f64) -> f64 {
    let mut sorted: Vec<f64> = samples.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

fn moments(samples: &[f64]) -> Moments {
    let count = samples.len() as f64;
    let mean = samples.iter().sum::<f64>() / count;
    let squares: f64 = samples.iter().map(|it| (it - mean).powi(2)).sum();
    Moments { count, mean, variance: squares / (count - 1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_textbooks_say() {
        // Of https://en.wikipedia.org/wiki/Welch's_t-test, the second example.
        let one = [17.2, 20.9, 22.6, 18.1, 21.7, 21.4, 23.5, 24.2, 14.7, 21.8];
        let other = [
            21.5, 22.8, 21.0, 23.0, 21.6, 23.6, 22.5, 20.7, 23.4, 21.8, 20.7, 21.7, 21.5, 22.5,
            23.6, 21.5, 22.5, 23.5, 21.5, 21.8,
        ];
        assert!((t(&one, &other) + 1.57).abs() < 0.01, "{}", t(&one, &other));
        assert_eq!(t(&one, &other), -t(&other, &one));
    }

    #[test]
    fn what_differs_is_told_from_what_does_not() {
        let scatter = |offset: f64| -> Vec<f64> {
            (0..10_000).map(|n| f64::from(n * 7919 % 1000) + offset).collect()
        };
        assert_eq!(t(&scatter(0.0), &scatter(0.0)), 0.0);
        assert!(t(&scatter(5.0), &scatter(0.0)) < 4.5);
        assert!(t(&scatter(25.0), &scatter(0.0)) > 4.5);
    }

    #[test]
    fn quantiles_are_of_the_samples() {
        let samples = || (1..=100).rev().map(f64::from);
        assert_eq!(quantile(samples(), 0.5), 50.0);
        assert_eq!(quantile(samples(), 0.99), 99.0);
        assert_eq!(quantile(samples(), 1.0), 100.0);
        assert!(quantile([], 0.5).is_nan());
        assert_eq!(below(&[1.0, 3.0, 2.0], 2.0), [1.0, 2.0]);
    }
}
