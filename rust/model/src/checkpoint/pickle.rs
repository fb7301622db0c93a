//! Pickles as `torch.save` writes them (protocol 2), read without running anything.
//!
//! A pickle is a program for a stack machine. This machine has the opcodes that a dictionary of tensors needs and no others, and
//! knows the names in [`Global::named`] and no others: what is not allowed here does not happen. Values refer to each other by
//! number, so that nothing recurses, however deep they are nested. Opcodes: Python's pickletools.py.

use std::collections::HashMap;

use safetensors::Dtype;

/// Fifty are usual for a tensor. Bounds the memory that a pickle can ask for by a few hundred MB.
const MOST_OPCODES: usize = 1 << 22;

/// Why a pickle is not read.
#[derive(Debug)]
pub(super) enum Problem {
    /// It goes on behind the end of the bytes.
    Short,
    Bad(String),
}

type Parsed<T> = Result<T, Problem>;

fn bad<T>(problem: impl Into<String>) -> Parsed<T> {
    Err(Problem::Bad(problem.into()))
}

#[derive(Clone, Copy)]
pub(super) enum Value<'a> {
    /// None, a bool or a float: nothing that matters here.
    Plain,
    Int(i64),
    Text(&'a str),
    Global(Global),
    /// First and number of `tuples`; the others are numbers in the list of that name.
    Tuple(usize, usize),
    List(usize),
    Dict(usize),
    Storage(usize),
    Tensor(usize),
}

impl Value<'_> {
    fn kind(self) -> &'static str {
        match self {
            Value::Plain => "None, a bool or a float",
            Value::Int(_) => "an int",
            Value::Text(_) => "a string",
            Value::Global(_) => "a class or function",
            Value::Tuple(..) => "a tuple",
            Value::List(_) => "a list",
            Value::Dict(_) => "a dict",
            Value::Storage(_) => "a storage",
            Value::Tensor(_) => "a tensor",
        }
    }
}

#[derive(Clone, Copy)]
pub(super) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(Dtype),
}

impl Global {
    fn named(module: &str, name: &str) -> Parsed<Self> {
        let dtype = match (module, name) {
            ("collections", "OrderedDict") => return Ok(Global::OrderedDict),
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => return Ok(Global::RebuildTensor),
            ("torch._utils", "_rebuild_parameter") => return Ok(Global::RebuildParameter),
            ("torch", "DoubleStorage") => Dtype::F64,
            ("torch", "FloatStorage") => Dtype::F32,
            ("torch", "HalfStorage") => Dtype::F16,
            ("torch", "BFloat16Storage") => Dtype::BF16,
            ("torch", "LongStorage") => Dtype::I64,
            ("torch", "IntStorage") => Dtype::I32,
            ("torch", "ShortStorage") => Dtype::I16,
            ("torch", "CharStorage") => Dtype::I8,
            ("torch", "ByteStorage") => Dtype::U8,
            ("torch", "BoolStorage") => Dtype::BOOL,
            _ => {
                return bad(format!(
                    "it holds {module:.100}.{name:.100}, which is not a plain tensor; nothing in the file is run"
                ));
            }
        };
        Ok(Global::Storage(dtype))
    }
}

/// Numbers in a file of their own.
#[derive(Clone, Copy)]
pub(super) struct Storage<'a> {
    pub(super) key: &'a str,
    pub(super) dtype: Dtype,
    /// Elements of the whole storage.
    pub(super) numel: usize,
    /// First element and number of what is seen of it.
    view: (usize, usize),
}

/// A view of a storage; all of it inside.
#[derive(Clone)]
pub(super) struct View {
    pub(super) storage: usize,
    /// The element of the storage that comes first.
    pub(super) first: usize,
    pub(super) shape: Vec<usize>,
    /// `None` where the elements lie one after the other.
    pub(super) strides: Option<Vec<usize>>,
}

/// What a pickle has made.
pub(super) struct Pickle<'a> {
    top: Value<'a>,
    /// Bytes of the pickle itself.
    pub(super) size: usize,
    tuples: Vec<Value<'a>>,
    lists: Vec<Vec<Value<'a>>>,
    dicts: Vec<Vec<(Value<'a>, Value<'a>)>>,
    pub(super) storages: Vec<Storage<'a>>,
    tensors: Vec<View>,
}

impl<'a> Pickle<'a> {
    /// Runs the pickle at the beginning of `bytes`.
    pub(super) fn read(bytes: &'a [u8]) -> Parsed<Self> {
        let mut machine = Machine {
            bytes,
            at: 0,
            stack: vec![],
            marks: vec![],
            memo: HashMap::new(),
            made: Pickle {
                top: Value::Plain,
                size: 0,
                tuples: vec![],
                lists: vec![],
                dicts: vec![],
                storages: vec![],
                tensors: vec![],
            },
        };
        for _ in 0..MOST_OPCODES {
            if machine.step()? {
                machine.made.top = machine.pop()?;
                machine.made.size = machine.at;
                return Ok(machine.made);
            }
        }
        bad(format!("the pickle has more than {MOST_OPCODES} opcodes"))
    }

    /// Name and tensor, if this is a dictionary of nothing else.
    pub(super) fn state_dict(&self) -> Result<Vec<(&'a str, &View)>, String> {
        let Value::Dict(dict) = self.top else {
            return Err(format!("it holds {}; expected a dict of tensors by name", self.top.kind()));
        };
        let tensor = |(key, value): &(Value<'a>, Value<'a>)| match (*key, *value) {
            (Value::Text(name), Value::Tensor(tensor)) => Ok((name, &self.tensors[tensor])),
            (Value::Text(name), other) => Err(format!("its {name:?} is {}, which is not a tensor", other.kind())),
            (other, _) => Err(format!("its keys should be names of tensors, one is {}", other.kind())),
        };
        self.dicts[dict].iter().map(tensor).collect()
    }

    /// The strings of a list of nothing else.
    pub(super) fn texts(&self) -> Result<Vec<&'a str>, String> {
        let Value::List(list) = self.top else {
            return Err(format!("it holds {}; expected the list of its storages", self.top.kind()));
        };
        let text = |value: &Value<'a>| match value {
            Value::Text(text) => Ok(*text),
            other => Err(format!("a storage's key is {}; expected a string", other.kind())),
        };
        self.lists[list].iter().map(text).collect()
    }

    fn tuple(&self, value: Value<'a>) -> Parsed<&[Value<'a>]> {
        match value {
            Value::Tuple(first, len) => Ok(&self.tuples[first..first + len]),
            other => bad(format!("the pickle has {} where a tuple should be", other.kind())),
        }
    }

    fn numbers(&self, value: Value<'a>) -> Parsed<Vec<usize>> {
        self.tuple(value)?.iter().map(|value| number(*value)).collect()
    }

    /// ("storage", class, key, device, numel), and in the old format one more: None or (key, offset, size) of a view.
    fn storage(&self, id: Value<'a>) -> Parsed<Storage<'a>> {
        let (key, dtype, numel, view) = match *self.tuple(id)? {
            [Value::Text("storage"), Value::Global(Global::Storage(dtype)), Value::Text(key), _, numel] => {
                (key, dtype, numel, Value::Plain)
            }
            [Value::Text("storage"), Value::Global(Global::Storage(dtype)), Value::Text(key), _, numel, view] => {
                (key, dtype, numel, view)
            }
            [Value::Text(kind), ..] if kind != "storage" => {
                return bad(format!("it holds a {kind:.100}, which is not read"));
            }
            _ => return bad("the pickle has a persistent id that is no storage"),
        };
        let numel = number(numel)?;
        let view = match view {
            Value::Plain => (0, numel),
            view => match *self.tuple(view)? {
                [_, offset, size] => (number(offset)?, number(size)?),
                _ => return bad("the view of a storage should be a key, an offset and a size"),
            },
        };
        if view.0.checked_add(view.1).is_none_or(|end| end > numel) {
            return bad(format!("a view of storage {key:?} lies outside of it"));
        }
        Ok(Storage { key, dtype, numel, view })
    }

    /// What `torch._utils._rebuild_tensor_v2` makes of (storage, offset, shape, strides, ...).
    fn tensor(&self, arguments: &[Value<'a>]) -> Parsed<View> {
        let [Value::Storage(storage), offset, shape, strides, ref others @ ..] = *arguments else {
            return bad("a tensor should have a storage, an offset, a shape and strides");
        };
        // After requires_grad and hooks: what is to be done to every element that is read.
        if others.len() > 2 {
            return bad("it holds a tensor whose conjugate or negative bit is set, which is not read");
        }
        let (offset, shape, strides) = (number(offset)?, self.numbers(shape)?, self.numbers(strides)?);
        let (key, (start, size)) = (self.storages[storage].key, self.storages[storage].view);
        if shape.len() != strides.len() {
            return bad(format!("a tensor of storage {key:?} has {} axes and {} strides", shape.len(), strides.len()));
        }
        let end = end_of_view(offset, &shape, &strides);
        if end.is_none_or(|end| end > size) {
            let problem =
                format!("shape {shape:?}, strides {strides:?} and offset {offset} lie outside of its {size} elements");
            return bad(format!("a tensor of storage {key:?}: {problem:.300}"));
        }
        let strides = (!is_contiguous(&shape, &strides)).then_some(strides);
        Ok(View { storage, first: start + offset, shape, strides })
    }
}

fn number(value: Value) -> Parsed<usize> {
    match value {
        Value::Int(n) => usize::try_from(n).or_else(|_| bad(format!("the pickle has {n} where a size should be"))),
        other => bad(format!("the pickle has {} where a number should be", other.kind())),
    }
}

/// The element after the last one that is seen; `None` if that, or the number of elements, is beyond all numbers.
fn end_of_view(offset: usize, shape: &[usize], strides: &[usize]) -> Option<usize> {
    if shape.contains(&0) {
        return Some(offset);
    }
    shape.iter().try_fold(1_usize, |product, size| product.checked_mul(*size))?.checked_mul(8)?;
    let steps = shape.iter().zip(strides).map(|(size, stride)| (size - 1).checked_mul(*stride));
    steps.into_iter().try_fold(offset, |end, step| end.checked_add(step?))?.checked_add(1)
}

fn is_contiguous(shape: &[usize], strides: &[usize]) -> bool {
    let mut expected = 1_usize;
    shape.contains(&0)
        || shape.iter().zip(strides).rev().all(|(size, stride)| {
            let fits = *size == 1 || *stride == expected;
            expected = expected.saturating_mul(*size);
            fits
        })
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value<'a>>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<usize, Value<'a>>,
    made: Pickle<'a>,
}

impl<'a> Machine<'a> {
    /// One opcode; true at the end.
    fn step(&mut self) -> Parsed<bool> {
        let [opcode] = self.take_array()?;
        let (number, from) = (self.operand(opcode)?, self.start(opcode)?);
        match opcode {
            b'.' => return Ok(true),
            0x80 => self.protocol()?,
            b'(' => self.marks.push(self.stack.len()),
            b'N' | 0x88 | 0x89 => self.stack.push(Value::Plain),
            b'G' => self.take(8).map(|_| self.stack.push(Value::Plain))?,
            b'K' => self.int(1, false)?,
            b'M' => self.int(2, false)?,
            b'J' => self.int(4, true)?,
            0x8a => self.int(number, true)?,
            b'U' | b'X' | b'T' => self.text(number)?,
            b'c' => self.global()?,
            b'q' | b'r' => self.put(number)?,
            b'h' | b'j' => self.get(number)?,
            b')' | 0x85..=0x87 | b't' => self.tuple(from)?,
            b']' => self.list(),
            b'}' => self.dict(),
            b'a' | b'e' => self.append(from)?,
            b's' | b'u' => self.set_items(from)?,
            b'Q' => self.storage()?,
            b'R' => self.reduce()?,
            b'b' => self.build()?,
            other => return bad(format!("the pickle has the opcode 0x{other:02x}, which no dict of tensors needs")),
        }
        Ok(false)
    }

    /// The size or key that follows an opcode.
    fn operand(&mut self, opcode: u8) -> Parsed<usize> {
        Ok(match opcode {
            b'U' | b'q' | b'h' | 0x8a => u8::from_le_bytes(self.take_array()?).into(),
            b'X' | b'T' | b'r' | b'j' => u32::from_le_bytes(self.take_array()?) as usize,
            _ => 0,
        })
    }

    /// The height of the stack from which on an opcode takes what is there; beyond the stack if that is too little.
    fn start(&mut self, opcode: u8) -> Parsed<usize> {
        let count = match opcode {
            b't' | b'e' | b'u' => return self.mark(),
            0x85..=0x87 => usize::from(opcode - 0x84),
            b'a' => 1,
            b's' => 2,
            _ => 0,
        };
        Ok(self.stack.len().checked_sub(count).unwrap_or(usize::MAX))
    }

    fn protocol(&mut self) -> Parsed<()> {
        match self.take_array()? {
            [2] => Ok(()),
            [other] => bad(format!("its pickle is of protocol {other}; only 2, torch's default, is read")),
        }
    }

    fn int(&mut self, size: usize, signed: bool) -> Parsed<()> {
        let bytes = self.take(size)?;
        if size > 8 {
            return bad("the pickle has an int of more than 8 bytes");
        }
        let negative = signed && bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        wide[..size].copy_from_slice(bytes);
        self.stack.push(Value::Int(i64::from_le_bytes(wide)));
        Ok(())
    }

    fn text(&mut self, size: usize) -> Parsed<()> {
        let text = utf8(self.take(size)?)?;
        self.stack.push(Value::Text(text));
        Ok(())
    }

    fn tuple(&mut self, from: usize) -> Parsed<()> {
        let first = self.made.tuples.len();
        if from > self.stack.len() {
            return bad("the pickle takes more from its stack than is there");
        }
        self.made.tuples.extend(self.stack.drain(from..));
        self.stack.push(Value::Tuple(first, self.made.tuples.len() - first));
        Ok(())
    }

    fn global(&mut self) -> Parsed<()> {
        let (module, name) = (self.line()?, self.line()?);
        self.stack.push(Value::Global(Global::named(module, name)?));
        Ok(())
    }

    fn list(&mut self) {
        self.made.lists.push(vec![]);
        self.stack.push(Value::List(self.made.lists.len() - 1));
    }

    fn dict(&mut self) {
        self.made.dicts.push(vec![]);
        self.stack.push(Value::Dict(self.made.dicts.len() - 1));
    }

    fn append(&mut self, from: usize) -> Parsed<()> {
        match self.below(from)? {
            Value::List(list) => self.made.lists[list].extend(self.stack.drain(from..)),
            other => return bad(format!("the pickle appends to {}", other.kind())),
        }
        Ok(())
    }

    fn set_items(&mut self, from: usize) -> Parsed<()> {
        let Value::Dict(dict) = self.below(from)? else {
            return bad("the pickle sets items of what is no dict");
        };
        let (pairs, []) = self.stack[from..].as_chunks() else {
            return bad("the pickle sets a key without a value");
        };
        self.made.dicts[dict].extend(pairs.iter().map(|[key, value]| (*key, *value)));
        self.stack.truncate(from);
        Ok(())
    }

    fn storage(&mut self) -> Parsed<()> {
        let id = self.pop()?;
        self.made.storages.push(self.made.storage(id)?);
        self.stack.push(Value::Storage(self.made.storages.len() - 1));
        Ok(())
    }

    fn reduce(&mut self) -> Parsed<()> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let arguments = self.made.tuple(arguments)?;
        match (function, arguments) {
            (Value::Global(Global::OrderedDict), []) => self.dict(),
            (Value::Global(Global::RebuildTensor), arguments) => {
                let tensor = self.made.tensor(arguments)?;
                self.made.tensors.push(tensor);
                self.stack.push(Value::Tensor(self.made.tensors.len() - 1));
            }
            (Value::Global(Global::RebuildParameter), [Value::Tensor(tensor), ..]) => {
                self.stack.push(Value::Tensor(*tensor));
            }
            (Value::Global(_), _) => return bad("the pickle calls a function with arguments that it does not take"),
            (other, _) => return bad(format!("the pickle calls {}", other.kind())),
        }
        Ok(())
    }

    /// Attributes of an OrderedDict (`_metadata`), which are not kept.
    fn build(&mut self) -> Parsed<()> {
        self.pop()?;
        match self.below(self.stack.len())? {
            Value::Dict(_) => Ok(()),
            other => bad(format!("the pickle sets attributes of {}", other.kind())),
        }
    }

    fn put(&mut self, key: usize) -> Parsed<()> {
        let top = self.below(self.stack.len())?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn get(&mut self, key: usize) -> Parsed<()> {
        let Some(value) = self.memo.get(&key) else {
            return bad(format!("the pickle asks for value {key}, which it has not kept"));
        };
        self.stack.push(*value);
        Ok(())
    }

    fn pop(&mut self) -> Parsed<Value<'a>> {
        self.stack.pop().map_or_else(|| bad("the pickle takes from an empty stack"), Ok)
    }

    fn mark(&mut self) -> Parsed<usize> {
        match self.marks.pop() {
            Some(mark) if mark <= self.stack.len() => Ok(mark),
            _ => bad("the pickle asks for a mark that is not there"),
        }
    }

    /// The value under a height of the stack, which must be there.
    fn below(&self, height: usize) -> Parsed<Value<'a>> {
        let value = height.checked_sub(1).filter(|_| height <= self.stack.len()).map(|top| self.stack[top]);
        value.map_or_else(|| bad("the pickle takes more from its stack than is there"), Ok)
    }

    fn take(&mut self, size: usize) -> Parsed<&'a [u8]> {
        let taken = self.bytes[self.at..].get(..size).ok_or(Problem::Short)?;
        self.at += size;
        Ok(taken)
    }

    fn take_array<const N: usize>(&mut self) -> Parsed<[u8; N]> {
        let taken = self.bytes[self.at..].first_chunk().ok_or(Problem::Short)?;
        self.at += N;
        Ok(*taken)
    }

    fn line(&mut self) -> Parsed<&'a str> {
        let rest = &self.bytes[self.at..];
        let size = rest.iter().position(|byte| *byte == b'\n').ok_or(Problem::Short)?;
        self.at += size + 1;
        utf8(&rest[..size])
    }
}

fn utf8(bytes: &[u8]) -> Parsed<&str> {
    std::str::from_utf8(bytes).or_else(|_| bad("the pickle has a string that is not UTF-8"))
}
