//! Attention with its options, there and back, on every ISA against its twin, and law 1. (The twin's derivatives are held to
//! finite differences in backward_contract.rs.)

use super::*;
use crate::dropout::Dropout;
use crate::naive;
use crate::testing::{Guarded, Random, assert_same_bits, for_every_level};

#[derive(Clone)]
struct Problem {
    /// The first sequence's start.
    start: usize,
    lengths: Vec<usize>,
    keys: Vec<usize>,
    heads: usize,
    key_heads: usize,
    dim: usize,
    scale: f32,
    reach: [usize; 2],
    soft_cap: Option<f32>,
    /// (heads, 2 reach - 1) and its reach.
    bias: Option<(Vec<f32>, usize)>,
    /// pos_key and pos_query (P, heads x D), which of them attention is given, and their places; all empty where there are none.
    positions: [Vec<f32>; 2],
    given: [bool; 2],
    places: Vec<u32>,
    /// Rate and key.
    dropout: Option<(f32, u64)>,
    in_bf16: bool,
    /// q (T, heads x D), k and v (T, key_heads x D), dout (T, heads x D)
    operands: [Vec<f32>; 4],
}

/// What attention makes of a problem: the probabilities and out; the gradients of q, k, v, the bias, pos_key and pos_query.
struct Results {
    there: [Vec<f32>; 2],
    back: [Vec<f32>; 6],
}

impl Problem {
    fn new(lengths: &[usize], keys: &[usize], heads: usize, dim: usize) -> Self {
        let tokens = lengths.iter().sum::<usize>();
        let mut random = Random((tokens * 100 + dim) as u64);
        let operands = std::array::from_fn(|_| random.floats(tokens * heads * dim));
        let (lengths, keys, scale) = (lengths.to_vec(), keys.to_vec(), 2.0 / (dim as f32).sqrt());
        Problem {
            start: 3,
            lengths,
            keys,
            heads,
            key_heads: heads,
            dim,
            scale,
            reach: [usize::MAX; 2],
            soft_cap: None,
            bias: None,
            positions: [vec![], vec![]],
            given: [false; 2],
            places: vec![],
            dropout: None,
            in_bf16: false,
            operands,
        }
    }

    fn biased(self, reach: usize) -> Self {
        let table = Random(reach as u64).floats(self.heads * (2 * reach - 1)).iter().map(|x| 3.0 * x).collect();
        Problem { bias: Some((table, reach)), ..self }
    }

    /// With so many positions for distances up to `reach`: near ones have their own, far ones share.
    fn placed(self, count: usize, reach: usize, given: [bool; 2]) -> Self {
        let (middle, mut random) = (count as f64 / 2.0, Random(count as u64));
        let place = |distance: f64| match distance.abs() {
            near if near <= middle / 2.0 => middle + distance,
            far => middle + distance.signum() * (middle / 2.0 + (far - middle / 2.0).sqrt()),
        };
        let place = |i: usize| place(i as f64 - (reach - 1) as f64).clamp(0.0, (count - 1) as f64) as u32;
        let positions = std::array::from_fn(|_| random.floats(count * self.heads * self.dim));
        Problem { positions, given, places: (0..2 * reach - 1).map(place).collect(), ..self }
    }

    /// P.
    fn count(&self) -> usize {
        self.positions[0].len() / self.columns(0)
    }

    /// With the first heads of keys and values alone.
    fn grouped(self, key_heads: usize) -> Self {
        let mut operands = self.operands.clone();
        for i in [1, 2] {
            let rows = self.operands[i].chunks(self.columns(i));
            operands[i] = rows.flat_map(|row| row[..key_heads * self.dim].to_vec()).collect();
        }
        Problem { key_heads, operands, ..self }
    }

    /// Heads of operand i.
    fn heads(&self, i: usize) -> usize {
        if i == 1 || i == 2 { self.key_heads } else { self.heads }
    }

    fn columns(&self, i: usize) -> usize {
        self.heads(i) * self.dim
    }

    /// The elements of operand i that are sequence s's.
    fn elements(&self, s: usize, i: usize) -> Range<usize> {
        self.first(s) * self.columns(i)..self.first(s + 1) * self.columns(i)
    }

    fn longest(&self) -> usize {
        self.lengths.iter().copied().max().unwrap_or(0)
    }

    fn first(&self, s: usize) -> usize {
        self.lengths[..s].iter().sum()
    }

    fn tokens(&self) -> usize {
        self.first(self.lengths.len())
    }

    /// Sequence s alone.
    fn alone(&self, s: usize) -> Self {
        let operands = std::array::from_fn(|i| self.operands[i][self.elements(s, i)].to_vec());
        let (lengths, keys) = (vec![self.lengths[s]], vec![self.keys[s]]);
        Problem { start: self.start + self.first(s), lengths, keys, operands, ..self.clone() }
    }

    fn in_bf16(&self, level: Level) -> bool {
        self.in_bf16 && level.has_bf16()
    }

    /// Through operands whose rows lie `gap` apart and off every cache line, in scratch no longer than was asked for.
    fn run(&self, level: Level, threads: usize, gap: usize, offset: usize) -> Results {
        let (tokens, width) = (self.tokens(), self.longest());
        let starts: Vec<usize> = (0..=self.lengths.len()).map(|s| self.start + self.first(s)).collect();
        let (count, positions) =
            (self.count(), |i: usize| Mat::dense(&self.positions[i], self.count(), self.columns(0)));
        let [keys, queries] = [0, 1].map(|i| self.given[i].then(|| positions(i)));
        let of = Heads {
            keys: Some(&self.keys),
            key_heads: self.key_heads,
            reach: self.reach,
            soft_cap: self.soft_cap,
            bias: self.bias.as_ref().map(|(table, reach)| Bias { table, reach: *reach }),
            positions: (count > 0).then_some(Positions { keys, queries, places: &self.places }),
            dropout: self.dropout.and_then(|(rate, key)| Dropout::new(rate, key)),
            ..Heads::new(self.heads, &starts, self.scale)
        };
        let guarded = |i: usize| Guarded::new(&self.operands[i], tokens, self.columns(i), gap, offset);
        let [q, k, v, dout] = [0, 1, 2, 3].map(guarded);
        let floats = [q.mat(), k.mat(), v.mat()];
        let halves =
            [0, 1, 2].map(|i| Guarded::new(&pairs(&self.operands[i]), tokens, self.columns(i) / 2, gap, offset));
        let narrow = halves.each_ref().map(|x| x.mat().words());
        let operands = if self.in_bf16(level) { Qkv::Bf16(narrow) } else { Qkv::Floats(floats) };
        let mut out = Guarded::output(tokens, self.columns(0), gap, offset);
        let mut p = vec![-7.0; self.lengths.len() * self.heads * width * width];
        let places: Vec<usize> = self.lengths.iter().flat_map(|length| 0..*length).collect();
        let probabilities = Some(Probabilities { out: &mut p, width, columns: &places, source: None });
        let more = if count > 0 { positions_scratch(level, width, self.dim, count) } else { 0 };
        let size = threads * (attention_scratch(level, width, self.dim) + more);
        let mut scratch = Guarded::output(1, size, 0, offset);
        let team = Threads::new(threads);
        attention(level, &team, operands, of, scratch.slice(), probabilities, out.mat_mut());

        let mut gradients: [Guarded; 3] =
            std::array::from_fn(|i| Guarded::output(tokens, self.columns(i), gap, offset + i));
        let more = if count > 0 { positions_backward_scratch(level, width, self.dim, count) } else { 0 };
        let size = threads * (attention_backward_scratch(level, width, self.dim) + more);
        let mut scratch = Guarded::output(1, size, 0, offset);
        let mut dbias = self.bias.as_ref().map_or(vec![], |(table, _)| vec![0.5; table.len()]);
        let [dq, dk, dv] = &mut gradients;
        let bias = self.bias.as_ref().map(|_| &mut dbias[..]);
        let start = |x: &Vec<f32>| Guarded::new(&vec![0.25; x.len()], count, self.columns(0), gap, offset);
        let mut dpositions = self.positions.each_ref().map(start);
        let [d_pos_key, d_pos_query] = &mut dpositions;
        let positions = [(d_pos_key, 0), (d_pos_query, 1)].map(|(x, i)| self.given[i].then(|| x.mat_mut()));
        let into = AttentionGradients { qkv: [dq.mat_mut(), dk.mat_mut(), dv.mat_mut()], bias, positions };
        attention_backward(level, &team, floats, of, dout.mat(), scratch.slice(), into);
        let [dq, dk, dv] = gradients.map(|x| x.values());
        let [d_pos_key, d_pos_query] = dpositions.map(|x| x.values());
        Results { there: [p, out.values()], back: [dq, dk, dv, dbias, d_pos_key, d_pos_query] }
    }

    /// Rows `first..first + count` of one head of several, dense.
    fn part(&self, xs: &[f32], heads: usize, [first, count]: [usize; 2], head: usize) -> Vec<f64> {
        let rows = xs.chunks(heads * self.dim).skip(first).take(count);
        rows.flat_map(|row| row[head * self.dim..][..self.dim].iter().map(|x| f64::from(*x)).collect::<Vec<_>>())
            .collect()
    }

    /// What the cap makes of a scaled score, and the derivative of that.
    fn capped(&self, score: f64) -> [f64; 2] {
        self.soft_cap.map_or([score, 1.0], |cap| {
            [naive::soft_cap(score, f64::from(cap)), naive::soft_cap_slope(score, f64::from(cap))]
        })
    }

    /// What is added to a scaled and capped score.
    fn added(&self, head: usize, query: usize, key: usize) -> f64 {
        if query.saturating_sub(key) > self.reach[0] || key.saturating_sub(query) > self.reach[1] {
            return f64::NEG_INFINITY;
        }
        self.bias
            .as_ref()
            .map_or(0.0, |(table, reach)| f64::from(table[head * (2 * reach - 1) + key + reach - 1 - query]))
    }

    fn mask(&self, s: usize, head: usize) -> Vec<f64> {
        let keys = |query: usize| (0..self.keys[s]).map(move |key| (query, key));
        let weight = |(query, key): (usize, usize)| match self.dropout {
            Some((rate, seed)) => {
                let row = (self.start + self.first(s) + query) * self.heads + head;
                if naive::dropout_keeps(rate, seed, row as u64, key as u32) {
                    1.0 / (1.0 - f64::from(rate))
                } else {
                    0.0
                }
            }
            None => 1.0,
        };
        (0..self.lengths[s]).flat_map(keys).map(weight).collect()
    }

    /// As stated.
    fn check(&self, level: Level, threads: usize) {
        let Results { there: [p, out], back } = self.run(level, threads, 2, 1);
        let (d, scale, heads) = (self.dim, f64::from(self.scale), self.heads);
        let start = self.bias.as_ref().map_or(vec![], |(table, _)| vec![0.5; table.len()]);
        let starts = self.positions.iter().map(|x| vec![0.25; x.len()]);
        let zeros = self.operands[..3].iter().map(|x| vec![0.0; x.len()]);
        let mut exact: Vec<Vec<f64>> = zeros.chain([start]).chain(starts).collect();
        let (count, places) = (self.count(), &self.places);
        for (s, head) in (0..self.lengths.len()).flat_map(|s| (0..heads).map(move |head| (s, head))) {
            let (first, l, n) = (self.first(s), self.lengths[s], self.keys[s]);
            let key_head = head / (heads / self.key_heads);
            let [q, k, v, dout] = [(0, l, head), (1, n, key_head), (2, n, key_head), (3, l, head)]
                .map(|(i, rows, head)| self.part(&self.operands[i], self.heads(i), [first, rows], head));
            let (added, mask) = (|i: usize, j: usize| self.added(head, i, j), self.mask(s, head));
            let [pos_key, pos_query] = [0, 1].map(|i| {
                let zeros = vec![0.0; count.max(1) * d];
                if self.given[i] { self.part(&self.positions[i], heads, [0, count], head) } else { zeros }
            });
            let place =
                |i: usize, j: usize| places.get((i + places.len() / 2).wrapping_sub(j)).map_or(0, |p| *p as usize);
            let all: [&[f64]; 4] = [&q, &k, &pos_key, &pos_query];
            let raw = naive::disentangled_scores(all, d, scale, &place, &|_, _| 0.0);
            let scores: Vec<f64> =
                raw.iter().enumerate().map(|(e, s)| self.capped(*s)[0] + added(e / n, e % n)).collect();
            let [ds, dv] = naive::attend_backward(&scores, &mask, &v, &dout, d);
            let d_raw: Vec<f64> = ds.iter().zip(&raw).map(|(d, s)| d * self.capped(*s)[1]).collect();
            let [dq, dk, d_pos_key, d_pos_query] = naive::disentangled_scores_backward(all, d, scale, &place, &d_raw);
            for (i, part) in [(0, dq), (1, dk), (2, dv), (4, d_pos_key), (5, d_pos_query)] {
                // Positions have no rows of their own for each sequence.
                let (own, head, columns) = match i {
                    1 | 2 => (first, key_head, self.columns(i)),
                    0 => (first, head, self.columns(0)),
                    _ => (0, head, self.columns(0)),
                };
                if i < 4 || self.given[i - 4] {
                    for (e, x) in part.iter().enumerate() {
                        exact[i][(own + e / d) * columns + head * d + e % d] += x;
                    }
                }
            }
            if let Some((_, reach)) = self.bias {
                for (e, x) in ds.iter().enumerate() {
                    exact[3][head * (2 * reach - 1) + e % n + reach - 1 - e / n] += x;
                }
            }
            let [p, out] = [self.square(&p, s, head), self.part(&out, heads, [first, l], head)];
            self.check_there(level, [&q, &k, &v], [&scores, &mask], [&p, &out]);
        }
        for (i, (got, exact)) in back.iter().zip(&exact).enumerate() {
            assert_eq!(got.len(), exact.len());
            let most = exact.iter().fold(1e-3f64, |a, b| a.max(b.abs()));
            let terms = if i >= 3 { self.tokens() } else { self.longest() };
            let allowed = 2f64.powi(-20) * (terms as f64).sqrt().max(8.0) * most;
            for (e, (got, exact)) in got.iter().zip(exact).enumerate() {
                let error = (f64::from(*got) - exact).abs();
                assert!(error <= allowed, "gradient {i}, element {e}: {got:e}, not {exact:e}");
            }
        }
    }

    /// The probabilities of one head of one sequence, for all its keys.
    fn square(&self, p: &[f32], s: usize, head: usize) -> Vec<f64> {
        let width = self.longest();
        let rows = p[(s * self.heads + head) * width * width..].chunks(width.max(1)).take(self.lengths[s]);
        rows.flat_map(|row| row[..self.keys[s]].iter().map(|x| f64::from(*x)).collect::<Vec<_>>()).collect()
    }

    fn check_there(&self, level: Level, [q, k, v]: [&[f64]; 3], [scores, mask]: [&[f64]; 2], got: [&[f64]; 2]) {
        let largest = |xs: &[f64]| xs.iter().fold(0f64, |a, b| a.max(b.abs()));
        let bias =
            self.bias.as_ref().map_or(0.0, |(table, _)| table.iter().fold(0f64, |a, b| a.max(f64::from(b.abs()))));
        let [pos_key, pos_query] =
            self.positions.each_ref().map(|x| x.iter().fold(0f64, |a, b| a.max(f64::from(b.abs()))));
        let products = largest(q) * largest(k) + largest(q) * pos_key + largest(k) * pos_query;
        let score = f64::from(self.scale) * self.dim as f64 * products + bias;
        let unit = 2f64.powi(if self.in_bf16(level) { -8 } else { -23 }) * (4.0 + score);
        let (exact_p, exact_out) = naive::attend(scores, mask, v, self.dim);
        assert_eq!(exact_p.len(), got[0].len());
        for (got, exact) in got[0].iter().zip(exact_p) {
            assert!((got - exact).abs() <= 2.0 * unit * exact, "probability {got:e}, not {exact:e}");
        }
        for (got, exact) in got[1].iter().zip(exact_out) {
            assert!((got - exact).abs() <= unit * largest(v) * largest(mask), "out {got:e}, not {exact:e}");
        }
    }
}

/// Rounded to bf16, two a word.
fn pairs(xs: &[f32]) -> Vec<f32> {
    let halves: Vec<u32> = naive::to_bf16(xs).into_iter().map(|x| x.to_bits() >> 16).collect();
    halves.chunks_exact(2).map(|pair| f32::from_bits(pair[0] | pair[1] << 16)).collect()
}

/// With positions: all distances near, most far, and as many as DeBERTa's.
fn placed() -> Vec<Problem> {
    let plain = Problem::new(&[7, 0, 30, 200, 1, 43], &[7, 0, 21, 150, 1, 42], 2, 12);
    let placed = |count, reach, given| plain.clone().placed(count, reach, given);
    let all = placed(60, 222, [true, true]);
    vec![
        placed(900, 200, [true, true]),
        placed(33, 200, [true, false]),
        placed(512, 512, [false, true]),
        Problem { dropout: Some((0.3, 11)), ..all.clone() },
        Problem { reach: [30, 20], ..all.clone().biased(200) },
        Problem { soft_cap: Some(1.0), ..all.clone() },
        all,
    ]
}

/// Problems with every option and many of their combinations.
fn problems() -> Vec<Problem> {
    let plain = Problem::new(&[7, 0, 30, 200, 1, 43], &[7, 0, 21, 150, 1, 42], 4, 12);
    let drop = |problem: &Problem| Problem { dropout: Some((0.3, 11)), ..problem.clone() };
    let narrow = |problem: &Problem| Problem { in_bf16: true, ..problem.clone() };
    let biased = plain.clone().biased(200);
    let capped = |problem: &Problem, cap| Problem { soft_cap: Some(cap), ..problem.clone() };
    let reaching = |problem: &Problem, reach| Problem { reach, ..problem.clone() };
    let all = [
        plain.clone().biased(333),
        reaching(&biased, [16, 16]),
        reaching(&plain, [usize::MAX, 0]),
        capped(&plain, 0.4),
        capped(&reaching(&biased, [40, 0]).grouped(2), 1.5),
        reaching(&biased, [40, 0]),
        reaching(&plain, [0, 70]).grouped(1),
        reaching(&biased, [50, 50]).grouped(2),
        plain.clone().grouped(2),
        biased,
        plain,
    ];
    all.iter().flat_map(|problem| [problem.clone(), drop(problem), narrow(&drop(problem))]).collect()
}

#[test]
fn the_options_keep_to_the_twin() {
    for_every_level(|level| {
        for problem in problems().into_iter().chain(placed()) {
            problem.check(level, 2);
        }
        for length in (1..=45).chain([84, 85, 129]) {
            let problem = Problem::new(&[length], &[length], 1, 8);
            problem.clone().biased(length).check(level, 1);
            problem.clone().placed(20, length, [true, true]).check(level, 1);
            for reach in [[0, 0], [1, 2], [length / 2; 2], [usize::MAX, 0]] {
                Problem { reach, ..problem.clone() }.check(level, 1);
            }
        }
    });
}

#[test]
fn a_high_cap_changes_little_and_a_low_one_evens_out() {
    for_every_level(|level| {
        let plain = Problem::new(&[40, 3], &[40, 3], 2, 24);
        let with = |cap| Problem { soft_cap: Some(cap), ..plain.clone() }.run(level, 1, 0, 0);
        let [high, low, plain] = [with(1e4), with(1e-6), plain.run(level, 1, 0, 0)];
        for (got, expected) in high.there.iter().chain(&high.back).zip(plain.there.iter().chain(&plain.back)) {
            assert!(got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5 * b.abs().max(1.0)));
        }
        assert!(low.there[0][..40].iter().all(|p| (p - 1.0 / 40.0).abs() < 1e-6));
    });
}

#[test]
fn the_slope_of_the_cap_is_its_derivative() {
    for (score, cap) in [(0.0, 1.0), (0.3, 0.5), (-0.9, 2.0), (0.7, 50.0)] {
        let difference = crate::testing::slope(|x| naive::soft_cap(x, cap), score);
        assert!((difference - naive::soft_cap_slope(score, cap)).abs() < 1e-7, "{score}, {cap}");
    }
}

#[test]
fn company_threads_and_alignment_change_nothing() {
    for_every_level(|level| {
        for problem in problems().into_iter().chain(placed()) {
            let expected = problem.run(level, 1, 0, 0);
            for (threads, gap, offset) in [(2, 3, 1), (3, 0, 5)] {
                let got = problem.run(level, threads, gap, offset);
                for (got, expected) in
                    got.there.iter().chain(&got.back).zip(expected.there.iter().chain(&expected.back))
                {
                    assert_same_bits(got, expected, format_args!("{threads} threads"));
                }
            }
            for s in [2, 3] {
                let alone = problem.alone(s).run(level, 1, 0, 0);
                assert_same_bits(
                    &alone.there[1],
                    &expected.there[1][problem.elements(s, 0)],
                    format_args!("out alone"),
                );
                for i in 0..3 {
                    let expected = &expected.back[i][problem.elements(s, i)];
                    assert_same_bits(&alone.back[i], expected, format_args!("gradient {i} alone"));
                }
            }
        }
    });
}

#[test]
fn a_reach_of_all_changes_nothing() {
    for_every_level(|level| {
        let plain = Problem::new(&[100, 3], &[100, 3], 2, 24);
        let wide = Problem { reach: [99; 2], ..plain.clone() }.run(level, 1, 0, 0);
        let plain = plain.run(level, 1, 0, 0);
        for (got, expected) in wide.there.iter().chain(&wide.back).zip(plain.there.iter().chain(&plain.back)) {
            assert_same_bits(got, expected, format_args!("reach"));
        }
    });
}

/// Query heads that share a key head compute what they would with a copy each.
#[test]
fn a_group_is_as_its_heads_alone() {
    for_every_level(|level| {
        let grouped = Problem::new(&[100, 3], &[90, 3], 4, 24).grouped(2);
        let mut copied = Problem { key_heads: 4, ..grouped.clone() };
        for i in [1, 2] {
            let heads = grouped.operands[i].chunks(24);
            copied.operands[i] = heads.flat_map(|head| [head, head].concat()).collect();
        }
        let [grouped, copied] = [grouped, copied].map(|problem| problem.run(level, 1, 0, 0));
        for (got, expected) in
            grouped.there.iter().chain(&grouped.back[..1]).zip(copied.there.iter().chain(&copied.back))
        {
            assert_same_bits(got, expected, format_args!("grouped"));
        }
    });
}

/// Not even NaN comes from beyond: a key's stays with those who reach it, a value's with their blocks.
#[test]
fn what_is_out_of_reach_is_not_there() {
    for_every_level(|level| {
        let clean = Problem { reach: [10, 5], ..Problem::new(&[200], &[200], 1, 8) };
        let expected = clean.run(level, 1, 0, 0);
        for operand in [1, 2] {
            let mut poisoned = clean.clone();
            poisoned.operands[operand][100 * 8..101 * 8].fill(f32::NAN);
            let got = poisoned.run(level, 1, 0, 0);
            for query in 0..200 {
                let (got, expected) = (&got.there[1][query * 8..][..8], &expected.there[1][query * 8..][..8]);
                let near = 100usize.saturating_sub(query) <= 5 && query.saturating_sub(100) <= 10;
                let block = query / BLOCK * BLOCK;
                let shares =
                    (block.saturating_sub(10) / level.panel() * level.panel()..block + BLOCK + 5).contains(&100);
                if near {
                    assert!(got.iter().all(|x| x.is_nan()), "operand {operand}, query {query}");
                } else if operand == 1 || !shares {
                    assert_same_bits(got, expected, format_args!("operand {operand}, query {query}"));
                }
            }
        }
    });
}

#[test]
fn without_a_key_there_are_zeros() {
    for_every_level(|level| {
        let none = Problem::new(&[5], &[0], 2, 8);
        let beyond = Problem { reach: [1, 0], ..Problem::new(&[200], &[2], 2, 8) };
        for (problem, first) in [(none.clone(), 0), (none.placed(9, 5, [true; 2]).biased(5), 0), (beyond, 3)] {
            let Results { there: [_, out], back: [dq, ..] } = problem.run(level, 1, 0, 0);
            for x in [out, dq] {
                assert!(x[first * 16..].iter().all(|x| *x == 0.0));
            }
        }
    });
}

#[test]
#[should_panic(expected = "key_heads")]
fn positions_and_groups_are_refused() {
    Problem::new(&[5], &[5], 4, 4).placed(9, 5, [true; 2]).grouped(2).check(Level::best(), 1);
}

#[test]
fn the_disentangled_twin_is_the_derivative() {
    const D: usize = 3;
    let (scale, place) = (0.7, |i: usize, j: usize| [0, 0, 1, 2, 4, 3][i + 3 - j]);
    let mut random = Random(5);
    // q, k, pos_key, pos_query, and the gradient of the scores.
    let mut floats = |n: usize| -> Vec<f64> { random.floats(n).into_iter().map(f64::from).collect() };
    let (operands, ds) = ([3, 4, 5, 5].map(|rows| floats(rows * D)), floats(12));
    let of = |x: &[Vec<f64>; 4]| -> f64 {
        let [a, b, c, d] = x.each_ref().map(|x| &x[..]);
        let scores = naive::disentangled_scores([a, b, c, d], D, scale, &place, &|_, _| 1.0);
        scores.iter().zip(&ds).map(|(s, d)| s * d).sum()
    };
    let [a, b, c, d] = operands.each_ref().map(|x| &x[..]);
    let gradients = naive::disentangled_scores_backward([a, b, c, d], D, scale, &place, &ds);
    for (i, gradient) in gradients.iter().enumerate() {
        for (e, exact) in gradient.iter().enumerate() {
            let at = |step: f64| {
                let mut moved = operands.clone();
                moved[i][e] += step;
                of(&moved)
            };
            let difference = (at(1e-4) - at(-1e-4)) / 2e-4;
            assert!((difference - exact).abs() < 1e-9, "{i}, {e}: {difference} and {exact}");
        }
    }
}

#[test]
#[should_panic(expected = "places")]
fn places_that_do_not_reach_are_refused() {
    Problem::new(&[5], &[5], 1, 4).placed(9, 4, [true, true]).check(Level::best(), 1);
}

#[test]
#[should_panic(expected = "places")]
fn a_place_that_is_not_there_is_refused() {
    let mut problem = Problem::new(&[5], &[5], 1, 4).placed(9, 5, [true, true]);
    problem.places[0] = 9;
    problem.check(Level::best(), 1);
}

#[test]
#[should_panic(expected = "bias")]
fn a_bias_that_does_not_reach_is_refused() {
    Problem::new(&[5], &[5], 1, 4).biased(4).check(Level::best(), 1);
}
