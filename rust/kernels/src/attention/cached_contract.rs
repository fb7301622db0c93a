//! Attention to the cache on every ISA against its twin, and law 1.

use super::*;
use crate::gemm::Precision;
use crate::key_values::KeyValues;
use crate::naive;
use crate::testing::{Guarded, Random, assert_same_bits, for_every_level, nans};

#[derive(Clone)]
struct Problem {
    heads: usize,
    key_heads: usize,
    dim: usize,
    precision: Precision,
    scale: f32,
    soft_cap: Option<f32>,
    /// (heads, 2 reach - 1) and its reach.
    bias: Option<(Vec<f32>, usize)>,
    /// Of each sequence, distinct ones.
    lists: Vec<Vec<u32>>,
    /// List, which part of it, and its own place from the first of these on.
    queries: Vec<(usize, Range<usize>, usize)>,
    /// (T, heads x D)
    q: Vec<f32>,
    /// Of list and place (key_heads x D): keys and values.
    kv: Vec<Vec<[Vec<f32>; 2]>>,
}

impl Problem {
    /// Sequences of these lengths, each with one query for all of its keys, the last of which is its own.
    fn new(lengths: &[usize], [heads, key_heads, dim]: [usize; 3]) -> Self {
        let mut random = Random((lengths.iter().sum::<usize>() * 1000 + heads * 100 + dim) as u64);
        let row = |random: &mut Random| [0, 1].map(|_| random.floats(key_heads * dim));
        let kv = lengths.iter().map(|n| (0..*n).map(|_| row(&mut random)).collect()).collect();
        let queries = lengths.iter().enumerate().map(|(s, n)| (s, 0..*n, n.saturating_sub(1))).collect::<Vec<_>>();
        let q = Random(dim as u64).floats(queries.len() * heads * dim);
        Problem {
            heads,
            key_heads,
            dim,
            precision: Precision::Float32,
            scale: 2.0 / (dim as f32).sqrt(),
            soft_cap: None,
            bias: None,
            lists: scattered(lengths, 5),
            queries,
            q,
            kv,
        }
    }

    /// With other queries.
    fn asking(self, queries: &[(usize, Range<usize>, usize)]) -> Self {
        let q = Random(self.dim as u64).floats(queries.len() * self.heads * self.dim);
        Problem { queries: queries.to_vec(), q, ..self }
    }

    fn biased(self, reach: usize) -> Self {
        let table = Random(reach as u64).floats(self.heads * (2 * reach - 1)).iter().map(|x| 3.0 * x).collect();
        Problem { bias: Some((table, reach)), ..self }
    }

    fn in_bf16(self) -> Self {
        Problem { precision: Precision::BFloat16, ..self }
    }

    fn capped(self, cap: f32) -> Self {
        Problem { soft_cap: Some(cap), ..self }
    }

    fn columns(&self) -> usize {
        self.heads * self.dim
    }

    fn longest(&self) -> usize {
        self.queries.iter().map(|(_, part, _)| part.len()).max().unwrap_or(0)
    }

    /// Filled, in any order of sequences, with poison in the slots that are nobody's.
    fn cache(&self, level: Level) -> KeyValues {
        let slots = self.lists.iter().flatten().max().map_or(0, |slot| *slot as usize + 1);
        let mut cache = KeyValues::new(self.key_heads, self.dim, self.precision);
        cache.reserve(slots).unwrap();
        let columns = self.key_heads * self.dim;
        let poison = vec![f32::NAN; slots * columns];
        let all: Vec<u32> = (0..slots as u32).collect();
        let poison = Mat::dense(&poison, slots, columns);
        cache.write(level, &all, poison, poison);
        for (list, rows) in self.lists.iter().zip(&self.kv) {
            let [keys, values] = [0, 1].map(|i| rows.iter().flat_map(|row| row[i].clone()).collect::<Vec<_>>());
            cache.write(level, list, Mat::dense(&keys, list.len(), columns), Mat::dense(&values, list.len(), columns));
        }
        cache
    }

    /// The probabilities (T, heads, longest) and out, through operands `gap` apart and off every cache line, in scratch no longer
    /// than was asked for.
    fn run(&self, level: Level, threads: usize, gap: usize, offset: usize) -> [Vec<f32>; 2] {
        let cache = self.cache(level);
        let queries: Vec<CachedQuery> = self
            .queries
            .iter()
            .map(|(s, part, position)| CachedQuery { slots: &self.lists[*s][part.clone()], position: *position })
            .collect();
        let (tokens, width) = (queries.len(), self.longest());
        let q = Guarded::new(&self.q, tokens, self.columns(), gap, offset);
        let mut out = Guarded::output(tokens, self.columns(), gap, offset + 1);
        let size = threads * attention_cached_scratch(self.heads, self.key_heads, self.dim, width);
        let mut scratch = Guarded::output(1, size, 0, offset);
        let mut p =
            Guarded::new(&vec![UNTOUCHED; tokens * self.heads * width], tokens * self.heads, width, gap, offset);
        let of = Cached {
            cache: &cache,
            queries: &queries,
            heads: self.heads,
            scale: self.scale,
            soft_cap: self.soft_cap,
            bias: self.bias.as_ref().map(|(table, reach)| Bias { table, reach: *reach }),
        };
        let team = Threads::new(threads);
        attention_cached(level, &team, q.mat(), of, scratch.slice(), Some(p.mat_mut()), out.mat_mut());
        let mut again = Guarded::output(tokens, self.columns(), gap, offset + 1);
        attention_cached(level, &team, q.mat(), of, scratch.slice(), None, again.mat_mut());
        assert_same_bits(&again.values(), &out.values(), format_args!("without probabilities"));
        [p.values(), out.values()]
    }

    /// Keys (0) or values (1) of some places of list `s`, for one head, as the cache holds them.
    fn held(&self, i: usize, s: usize, part: &Range<usize>, key_head: usize) -> Vec<f64> {
        let rows = self.kv[s][part.clone()].iter();
        let floats: Vec<f32> = rows.flat_map(|row| row[i][key_head * self.dim..][..self.dim].to_vec()).collect();
        let floats = if self.precision == Precision::BFloat16 { naive::to_bf16(&floats) } else { floats };
        floats.into_iter().map(f64::from).collect()
    }

    /// As stated.
    fn check(&self, level: Level, threads: usize) {
        let [p, out] = self.run(level, threads, 3, 1);
        let width = self.longest();
        for ((t, (s, part, position)), head) in
            self.queries.iter().enumerate().flat_map(|query| (0..self.heads).map(move |head| (query, head)))
        {
            let row = t * self.heads + head;
            let q: Vec<f64> = self.q[row * self.dim..][..self.dim].iter().map(|x| f64::from(*x)).collect();
            let [k, v] = [0, 1].map(|i| self.held(i, *s, part, head / (self.heads / self.key_heads)));
            let bias = |key: usize| {
                let place = |reach: usize| head * (2 * reach - 1) + key + reach - 1 - position;
                self.bias.as_ref().map_or(0.0, |(table, reach)| f64::from(table[place(*reach)]))
            };
            let scores = naive::scores(&q, &k, self.dim, f64::from(self.scale), &|_, _| 0.0);
            let capped = |score: f64| self.soft_cap.map_or(score, |cap| naive::soft_cap(score, f64::from(cap)));
            let scores: Vec<f64> = scores.iter().enumerate().map(|(key, score)| capped(*score) + bias(key)).collect();
            let (exact_p, exact_out) = naive::attend(&scores, &vec![1.0; part.len()], &v, self.dim);
            let largest = |xs: &[f64]| xs.iter().fold(0f64, |a, b| a.max(b.abs()));
            let most = largest(&(0..part.len()).map(bias).collect::<Vec<_>>());
            let score = f64::from(self.scale) * self.dim as f64 * largest(&q) * largest(&k) + most;
            let rounding = 2f64.powi(-23) * (4.0 + score);
            let (p, padding) = p[row * width..][..width].split_at(part.len());
            assert!(padding.iter().all(|x| *x == UNTOUCHED));
            for (got, exact) in p.iter().zip(&exact_p) {
                assert!((f64::from(*got) - exact).abs() <= 2.0 * rounding * exact, "{got:e}, not {exact:e}");
            }
            let out = &out[row * self.dim..][..self.dim];
            let exact_out = if part.is_empty() { vec![0.0; self.dim] } else { exact_out };
            assert_eq!(exact_out.len(), self.dim);
            for (got, exact) in out.iter().zip(exact_out) {
                let error = (f64::from(*got) - exact).abs();
                assert!(error <= rounding * largest(&v), "{} x {}: {got:e}, not {exact:e}", part.len(), self.dim);
            }
        }
    }
}

const UNTOUCHED: f32 = -7.0;

/// A list for each length, of slots that are in no other, in no order.
fn scattered(lengths: &[usize], seed: u64) -> Vec<Vec<u32>> {
    let total = lengths.iter().sum::<usize>();
    let mut slots: Vec<u32> = (0..2 * total as u32).collect();
    let mut random = Random(seed);
    for i in (1..slots.len()).rev() {
        slots.swap(i, random.next() as usize % (i + 1));
    }
    let mut rest = slots.into_iter();
    lengths.iter().map(|n| rest.by_ref().take(*n).collect()).collect()
}

/// Some queries of the same list, some of parts of it, one of nothing.
fn mixed(shape: [usize; 3]) -> Problem {
    let queries =
        [(1, 0..90, 89), (0, 0..3, 2), (0, 0..4, 3), (0, 0..5, 4), (1, 30..90, 59), (2, 0..0, 0), (1, 0..90, 100)];
    Problem::new(&[5, 90, 1], shape).asking(&queries)
}

fn problems() -> Vec<Problem> {
    let shapes = [[1, 1, 64], [3, 3, 7], [4, 2, 80], [7, 1, 24], [12, 2, 16], [8, 4, 128], [2, 2, 1]];
    let all = shapes.into_iter().flat_map(|shape| {
        let plain = mixed(shape);
        let all = plain.clone().biased(101).capped(1.5);
        [plain.clone().capped(0.7), plain.clone().biased(120), plain, all]
    });
    all.flat_map(|problem| [problem.clone(), problem.in_bf16()]).collect()
}

#[test]
fn the_stated_accuracy_is_kept() {
    for_every_level(|level| {
        problems().iter().for_each(|problem| problem.check(level, 2));
        for length in (0..=70).chain([127, 128, 129, 500]) {
            let problem = Problem::new(&[length], [2, 1, 40]);
            problem.check(level, 1);
            problem.in_bf16().check(level, 1);
        }
        for dim in (1..=70).chain([96, 112, 256]) {
            Problem::new(&[19], [3, 1, dim]).check(level, 1);
            Problem::new(&[19], [3, 1, dim]).in_bf16().check(level, 1);
        }
        Problem::new(&[2000, 3000], [4, 4, 64]).check(level, 2);
    });
}

#[test]
fn company_threads_alignment_and_slots_change_nothing() {
    for_every_level(|level| {
        for problem in problems() {
            let [p, out] = problem.run(level, 1, 0, 0);
            for (threads, gap, offset) in [(2, 3, 1), (3, 0, 5)] {
                let elsewhere = Problem { lists: scattered(&[5, 90, 1], offset as u64 + 100), ..problem.clone() };
                for other in [&problem, &elsewhere] {
                    let got = other.run(level, threads, gap, offset);
                    assert_same_bits(&got[0], &p, format_args!("probabilities, {threads} threads"));
                    assert_same_bits(&got[1], &out, format_args!("{threads} threads"));
                }
            }
            for (t, query) in problem.queries.iter().enumerate() {
                let own = t * problem.columns()..(t + 1) * problem.columns();
                let mut alone = problem.clone().asking(std::slice::from_ref(query));
                alone.q.copy_from_slice(&problem.q[own.clone()]);
                let got = alone.run(level, 1, 1, 2);
                assert_same_bits(&got[1], &out[own], format_args!("query {t} alone"));
            }
        }
    });
}

/// Large enough to be shared out.
#[test]
fn threads_change_nothing_where_there_is_much_to_do() {
    for_every_level(|level| {
        let queries: Vec<_> = (1..=40).map(|n| (n % 2, 0..10 * n, 10 * n - 1)).collect();
        let problem = Problem::new(&[400, 400], [6, 3, 64]).asking(&queries);
        let [p, out] = problem.run(level, 1, 0, 0);
        for threads in [2, 3] {
            let got = problem.run(level, threads, 0, 0);
            assert_same_bits(&got[0], &p, format_args!("probabilities, {threads} threads"));
            assert_same_bits(&got[1], &out, format_args!("{threads} threads"));
        }
    });
}

/// Query heads that share a key head compute what they would with a copy each.
#[test]
fn a_group_is_as_its_heads_alone() {
    for_every_level(|level| {
        for group in 1..=9 {
            let grouped = Problem::new(&[50, 3], [2 * group, 2, 24]).capped(2.0);
            let mut copied = Problem { key_heads: 2 * group, ..grouped.clone() };
            for row in copied.kv.iter_mut().flatten().flatten() {
                *row = row.chunks(24).flat_map(|head| head.repeat(group)).collect();
            }
            let [grouped, copied] = [grouped, copied].map(|problem| problem.run(level, 1, 0, 0));
            for (got, expected) in grouped.iter().zip(&copied) {
                assert_same_bits(got, expected, format_args!("groups of {group}"));
            }
        }
    });
}

/// In the last digits alone does it differ from the kernel that packs.
#[test]
fn it_is_the_attention_of_the_other_kernel() {
    for_every_level(|level| {
        let (tokens, heads, dim) = (37, 3, 20);
        let causal: Vec<_> = (0..tokens).map(|t| (0, 0..t + 1, t)).collect();
        let problem = Problem::new(&[tokens], [heads, heads, dim]).asking(&causal).capped(2.0).biased(60);
        let [_, got] = problem.run(level, 1, 0, 0);
        let [k, v] = [0, 1].map(|i| problem.kv[0].iter().flat_map(|row| row[i].clone()).collect::<Vec<_>>());
        let [q, k, v] = [&problem.q, &k, &v].map(|x| Mat::dense(x, tokens, heads * dim));
        let ((table, reach), starts) = (problem.bias.as_ref().unwrap(), [0, tokens]);
        let of = Heads {
            reach: [usize::MAX, 0],
            soft_cap: problem.soft_cap,
            bias: Some(Bias { table, reach: *reach }),
            ..Heads::new(heads, &starts, problem.scale)
        };
        let mut scratch = vec![0.0; attention_scratch(level, tokens, dim)];
        let mut out = vec![0.0; tokens * heads * dim];
        let into = MatMut::dense(&mut out, tokens, heads * dim);
        attention(level, &Threads::serial(), Qkv::Floats([q, k, v]), of, &mut scratch, None, into);
        for (a, b) in got.iter().zip(&out) {
            assert!((a - b).abs() < 2e-6, "{a} and {b}");
        }
    });
}

#[test]
fn nan_goes_where_it_must_and_no_further() {
    for_every_level(|level| {
        let clean = mixed([4, 2, 9]);
        let [_, expected] = clean.run(level, 1, 0, 0);
        for (side, nan) in (0..2).flat_map(|side| nans().map(|nan| (side, nan))) {
            // In the second sequence's first key head, channel 2 of place 20.
            let mut poisoned = clean.clone();
            poisoned.kv[1][20][side][2] = nan;
            let [_, got] = poisoned.run(level, 1, 0, 0);
            for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
                let (s, part, _) = &clean.queries[i / (4 * 9)];
                let (head, channel) = (i % (4 * 9) / 9, i % 9);
                let reached = *s == 1 && part.contains(&20) && head < 2 && (side == 0 || channel == 2);
                let right = if reached { got.is_nan() } else { got.to_bits() == expected.to_bits() };
                assert!(right, "side {side}, element {i}: {got:e}, {expected:e} without NaN");
            }
        }
    });
}

#[test]
#[should_panic(expected = "slot 64 where there is room for 64")]
fn a_slot_without_room_is_refused() {
    let mut cache = KeyValues::new(1, 2, Precision::Float32);
    cache.reserve(64).unwrap();
    let queries = [CachedQuery { slots: &[3, 64], position: 1 }];
    let of = Cached { cache: &cache, queries: &queries, heads: 1, scale: 1.0, soft_cap: None, bias: None };
    let (q, mut out) = ([0.0; 2], [0.0; 2]);
    let (q, out) = (Mat::dense(&q, 1, 2), MatMut::dense(&mut out, 1, 2));
    attention_cached(Level::best(), &Threads::serial(), q, of, &mut [0.0; 1000], None, out);
}

#[test]
#[should_panic(expected = "bias")]
fn a_bias_that_does_not_reach_back_is_refused() {
    Problem::new(&[9], [1, 1, 4]).biased(8).check(Level::best(), 1);
}

#[test]
#[should_panic(expected = "bias")]
fn a_bias_that_does_not_reach_ahead_is_refused() {
    Problem::new(&[9], [1, 1, 4]).asking(&[(0, 0..9, 0)]).biased(8).check(Level::best(), 1);
}
