//! Exact nearest neighbours: one pass over a dense matrix, with SIMD where the processor has it.

use crate::filter_bitmap::Bitmap;
use crate::rank_topk::TopK;
use crate::table::{Matrix, Metric, MATRIX_CHUNK_ROWS};
use std::cmp::Ordering;

/// Scans of at least this many rows are split over [`SCAN_THREADS_MAX`] threads.
pub const PARALLEL_SCAN_ROWS_MIN: usize = 50_000;
pub const SCAN_THREADS_MAX: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    pub slot: u32,
    pub distance: f32,
}

/// A query vector made ready for one metric.
pub struct Probe<'a> {
    query: &'a [f32],
    metric: Metric,
    norm: f32,
    kernel: Kernel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kernel {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
}

impl<'a> Probe<'a> {
    #[must_use]
    pub fn new(query: &'a [f32], metric: Metric) -> Self {
        let norm = portable::dot_and_norm(query, query).1.sqrt();
        Self { query, metric, norm, kernel: fastest_kernel() }
    }

    /// `1 − cos` for cosine (1 if either vector is zero), `Σ(x−y)²` for squared euclidean, and its root for euclidean.
    #[must_use]
    pub fn distance(&self, row: &[f32]) -> f32 {
        match self.metric {
            Metric::Cosine => {
                let (dot, squares) = self.dot_and_norm(row);
                let norms = self.norm * squares.sqrt();
                if norms > 0.0 {
                    (1.0 - dot / norms).clamp(0.0, 2.0)
                } else {
                    1.0
                }
            }
            Metric::EuclideanSquared => self.squared_distance(row),
            Metric::Euclidean => self.squared_distance(row).sqrt(),
        }
    }

    fn dot_and_norm(&self, row: &[f32]) -> (f32, f32) {
        match self.kernel {
            Kernel::Portable => portable::dot_and_norm(self.query, row),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `fastest_kernel` chose this kernel after it saw that the processor has AVX2 and FMA.
            Kernel::Avx2 => unsafe { avx2::dot_and_norm(self.query, row) },
        }
    }

    fn squared_distance(&self, row: &[f32]) -> f32 {
        match self.kernel {
            Kernel::Portable => portable::squared_distance(self.query, row),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `fastest_kernel` chose this kernel after it saw that the processor has AVX2 and FMA.
            Kernel::Avx2 => unsafe { avx2::squared_distance(self.query, row) },
        }
    }
}

fn fastest_kernel() -> Kernel {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        return Kernel::Avx2;
    }
    Kernel::Portable
}

/// The `limit` nearest slots among `candidates` (all slots if None), nearest first; equal distances by `tie`.
pub fn nearest(
    matrix: &Matrix,
    probe: &Probe<'_>,
    limit: usize,
    candidates: Option<&Bitmap>,
    tie: &(impl Fn(u32, u32) -> Ordering + Sync),
) -> Vec<Hit> {
    let order =
        |left: &Hit, right: &Hit| left.distance.total_cmp(&right.distance).then_with(|| tie(left.slot, right.slot));
    let mut best = TopK::new(limit, order);
    for part in scan_in_parts(matrix.rows, |start, end| {
        let mut top = TopK::new(limit, order);
        let mut visit = |slot: u32| {
            let hit = Hit { slot, distance: probe.distance(matrix.row(slot)) };
            top.push(hit);
        };
        match candidates {
            None => (start..end).for_each(&mut visit),
            Some(bitmap) => bitmap.iter_range(start, end).for_each(&mut visit),
        }
        top.into_sorted()
    }) {
        part.into_iter().for_each(|hit| best.push(hit));
    }
    best.into_sorted()
}

/// Runs `scan(start, end)` over consecutive ranges of slots that together cover `0..rows`, on as many threads as the
/// size deserves. Ranges begin at multiples of [`MATRIX_CHUNK_ROWS`]; results come in slot order.
pub fn scan_in_parts<T: Send>(rows: usize, scan: impl Fn(u32, u32) -> T + Sync) -> Vec<T> {
    let end = u32::try_from(rows).unwrap_or(u32::MAX);
    if rows < PARALLEL_SCAN_ROWS_MIN {
        return vec![scan(0, end)];
    }
    let chunks_per_part = rows.div_ceil(MATRIX_CHUNK_ROWS).div_ceil(SCAN_THREADS_MAX);
    let part_rows = u32::try_from(chunks_per_part * MATRIX_CHUNK_ROWS).unwrap_or(u32::MAX);
    let bounds: Vec<u32> = (0..end).step_by(part_rows as usize).collect();
    let scan = &scan;
    std::thread::scope(|scope| {
        let others: Vec<_> = bounds[1..]
            .iter()
            .map(|start| scope.spawn(move || scan(*start, start.saturating_add(part_rows).min(end))))
            .collect();
        let mut parts = vec![scan(0, part_rows.min(end))];
        for other in others {
            match other.join() {
                Ok(part) => parts.push(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        parts
    })
}

/// Eight lanes that the compiler turns into whatever vectors the target has.
mod portable {
    const LANES: usize = 8;

    pub fn dot_and_norm(query: &[f32], row: &[f32]) -> (f32, f32) {
        let mut dot = [0.0_f32; LANES];
        let mut squares = [0.0_f32; LANES];
        let (left, right) = (query.chunks_exact(LANES), row.chunks_exact(LANES));
        let tail = left.remainder().iter().zip(right.remainder());
        for (x, y) in left.clone().zip(right.clone()) {
            for lane in 0..LANES {
                dot[lane] += x[lane] * y[lane];
                squares[lane] += y[lane] * y[lane];
            }
        }
        let (mut dot, mut squares) = (dot.iter().sum::<f32>(), squares.iter().sum::<f32>());
        for (x, y) in tail {
            dot += x * y;
            squares += y * y;
        }
        (dot, squares)
    }

    pub fn squared_distance(query: &[f32], row: &[f32]) -> f32 {
        let mut sum = [0.0_f32; LANES];
        let (left, right) = (query.chunks_exact(LANES), row.chunks_exact(LANES));
        let tail = left.remainder().iter().zip(right.remainder());
        for (x, y) in left.clone().zip(right.clone()) {
            for lane in 0..LANES {
                let difference = x[lane] - y[lane];
                sum[lane] += difference * difference;
            }
        }
        tail.fold(sum.iter().sum::<f32>(), |sum, (x, y)| sum + (x - y) * (x - y))
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{
        __m256, _mm256_add_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_setzero_ps, _mm256_storeu_ps, _mm256_sub_ps,
    };

    const LANES: usize = 8;
    /// Independent sums, so that one multiply-add need not wait for the one before.
    const STRIDE: usize = LANES * 2;

    /// # Safety
    /// The processor has AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn dot_and_norm(query: &[f32], row: &[f32]) -> (f32, f32) {
        let len = query.len().min(row.len());
        let mut dots = [_mm256_setzero_ps(); 2];
        let mut squares = [_mm256_setzero_ps(); 2];
        let mut at = 0;
        while at + STRIDE <= len {
            for lane in 0..2 {
                // SAFETY: `at + STRIDE <= len` keeps all eight floats inside both slices.
                let (x, y) = unsafe {
                    (
                        _mm256_loadu_ps(query.as_ptr().add(at + lane * LANES)),
                        _mm256_loadu_ps(row.as_ptr().add(at + lane * LANES)),
                    )
                };
                dots[lane] = _mm256_fmadd_ps(x, y, dots[lane]);
                squares[lane] = _mm256_fmadd_ps(y, y, squares[lane]);
            }
            at += STRIDE;
        }
        let mut dot = sum(_mm256_add_ps(dots[0], dots[1]));
        let mut norm = sum(_mm256_add_ps(squares[0], squares[1]));
        for (x, y) in query[at..len].iter().zip(&row[at..len]) {
            dot += x * y;
            norm += y * y;
        }
        (dot, norm)
    }

    /// # Safety
    /// The processor has AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn squared_distance(query: &[f32], row: &[f32]) -> f32 {
        let len = query.len().min(row.len());
        let mut sums = [_mm256_setzero_ps(); 2];
        let mut at = 0;
        while at + STRIDE <= len {
            for (lane, total) in sums.iter_mut().enumerate() {
                // SAFETY: `at + STRIDE <= len` keeps all eight floats inside both slices.
                let difference = unsafe {
                    _mm256_sub_ps(
                        _mm256_loadu_ps(query.as_ptr().add(at + lane * LANES)),
                        _mm256_loadu_ps(row.as_ptr().add(at + lane * LANES)),
                    )
                };
                *total = _mm256_fmadd_ps(difference, difference, *total);
            }
            at += STRIDE;
        }
        // Multiplied and added separately: short vectors that mirror each other then tie exactly.
        let tail = query[at..len].iter().zip(&row[at..len]);
        tail.fold(sum(_mm256_add_ps(sums[0], sums[1])), |total, (x, y)| total + (x - y) * (x - y))
    }

    #[target_feature(enable = "avx2")]
    fn sum(lanes: __m256) -> f32 {
        let mut parts = [0.0_f32; LANES];
        // SAFETY: `parts` holds exactly the eight floats that are stored.
        unsafe { _mm256_storeu_ps(parts.as_mut_ptr(), lanes) };
        ((parts[0] + parts[4]) + (parts[1] + parts[5])) + ((parts[2] + parts[6]) + (parts[3] + parts[7]))
    }
}

#[cfg(test)]
mod tests {
    use super::{nearest, scan_in_parts, Kernel, Probe, PARALLEL_SCAN_ROWS_MIN};
    use crate::filter_bitmap::Bitmap;
    use crate::query_testing::Rng;
    use crate::table::{Matrix, Metric};

    const METRICS: [Metric; 3] = [Metric::Cosine, Metric::EuclideanSquared, Metric::Euclidean];

    fn matrix(rng: &mut Rng, rows: usize, dims: usize) -> Matrix {
        let mut matrix = Matrix::new(dims);
        for _ in 0..rows {
            let row: Vec<f32> = (0..dims).map(|_| rng.unit()).collect();
            matrix.push(&row);
        }
        matrix
    }

    /// The definition, in double precision.
    fn slow_distance(metric: Metric, query: &[f32], row: &[f32]) -> f64 {
        let pairs = || query.iter().zip(row).map(|(x, y)| (f64::from(*x), f64::from(*y)));
        let squared: f64 = pairs().map(|(x, y)| (x - y) * (x - y)).sum();
        match metric {
            Metric::EuclideanSquared => squared,
            Metric::Euclidean => squared.sqrt(),
            Metric::Cosine => {
                let dot: f64 = pairs().map(|(x, y)| x * y).sum();
                let (left, right): (f64, f64) = pairs().fold((0.0, 0.0), |(l, r), (x, y)| (l + x * x, r + y * y));
                1.0 - dot / (left.sqrt() * right.sqrt())
            }
        }
    }

    #[test]
    fn every_kernel_agrees_with_the_definition() {
        let mut rng = Rng::new(3);
        for dims in [1, 2, 7, 8, 15, 16, 17, 64, 384, 385] {
            let rows = matrix(&mut rng, 20, dims);
            let query: Vec<f32> = (0..dims).map(|_| rng.unit()).collect();
            for metric in METRICS {
                for kernel in [Kernel::Portable, super::fastest_kernel()] {
                    let probe = Probe { kernel, ..Probe::new(&query, metric) };
                    for slot in 0..20 {
                        let expected = slow_distance(metric, &query, rows.row(slot));
                        let actual = f64::from(probe.distance(rows.row(slot)));
                        assert!((actual - expected).abs() < 1e-4 * expected.max(1.0), "{metric:?} {dims} {actual}");
                    }
                }
            }
        }
    }

    #[test]
    fn nearest_is_the_head_of_a_full_sort_within_the_candidates() {
        let mut rng = Rng::new(5);
        let rows = matrix(&mut rng, 500, 12);
        let query: Vec<f32> = (0..12).map(|_| rng.unit()).collect();
        let mut candidates = Bitmap::empty(500);
        (0..500).filter(|slot| slot % 3 == 1).for_each(|slot| candidates.set(slot));
        for metric in METRICS {
            let probe = Probe::new(&query, metric);
            let mut sorted: Vec<u32> = candidates.iter().collect();
            sorted.sort_by(|left, right| {
                probe.distance(rows.row(*left)).total_cmp(&probe.distance(rows.row(*right))).then(left.cmp(right))
            });
            let tie = |left: u32, right: u32| left.cmp(&right);
            let hits = nearest(&rows, &probe, 10, Some(&candidates), &tie);
            assert_eq!(hits.iter().map(|hit| hit.slot).collect::<Vec<_>>(), sorted[..10]);
        }
    }

    #[test]
    fn equal_distances_come_in_tie_order() {
        let mut rows = Matrix::new(2);
        for row in [[1.0, 2.0], [2.0, 1.0], [1.0, 2.0]] {
            rows.push(&row);
        }
        let probe = Probe::new(&[0.0, 0.0], Metric::EuclideanSquared);
        let slots = |ascending: bool| {
            let tie = |left: u32, right: u32| if ascending { left.cmp(&right) } else { right.cmp(&left) };
            nearest(&rows, &probe, 3, None, &tie).iter().map(|hit| hit.slot).collect::<Vec<_>>()
        };
        assert_eq!(slots(true), [0, 1, 2]);
        assert_eq!(slots(false), [2, 1, 0]);
    }

    #[test]
    fn zero_vectors_are_at_cosine_distance_one() {
        assert_eq!(Probe::new(&[0.0, 0.0], Metric::Cosine).distance(&[1.0, 0.0]), 1.0);
        assert_eq!(Probe::new(&[1.0, 0.0], Metric::Cosine).distance(&[0.0, 0.0]), 1.0);
    }

    #[test]
    fn parts_cover_each_slot_once() {
        for rows in [0, 1, PARALLEL_SCAN_ROWS_MIN - 1, PARALLEL_SCAN_ROWS_MIN, 123_457] {
            let slots: Vec<u32> = scan_in_parts(rows, |start, end| start..end).into_iter().flatten().collect();
            assert!(slots.iter().copied().eq(0..u32::try_from(rows).expect("fits")));
        }
    }
}
