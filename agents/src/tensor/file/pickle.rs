//! The part of Python's pickle that a state dict needs, read as data: nothing is imported, called or run.
//!
//! torch.save writes a state dict as a pickle whose tensors name their storages. A few names may be looked up, and
//! what they build is known here; of every other name only the name is kept, so that a training checkpoint, whose
//! weights lie beside an optimiser's state and a script's own objects, is read for its weights alone. Values live in
//! one flat list and refer to each other by index, so that neither depth nor sharing can exhaust the stack or the
//! memory.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use tch::Kind;

mod objects;

/// Longest pickle that is read; that of a policy with a thousand tensors has 0.2 MB.
pub const MAX_PICKLE: u64 = 1 << 24;

/// Most values that a pickle may build; that of a policy with a thousand tensors builds some 30,000. Sixteen
/// million pushes of a byte each would fill 0.7 GB.
const MAX_VALUES: usize = 1 << 20;

/// Most axes of a tensor.
const MAX_AXES: usize = 8;

/// A tensor as its pickle describes it; every element lies inside its storage.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// The storage's name.
    pub key: String,
    /// What an element is.
    pub kind: Kind,
    /// Elements of the storage.
    pub storage_len: i64,
    /// Elements from the storage's start to the tensor's.
    pub offset: i64,
    /// Sizes of the axes.
    pub shape: Vec<i64>,
    /// Elements from one index to the next of each axis.
    pub strides: Vec<i64>,
}

/// The tensors of a pickled state dict, by name.
pub fn state_dict(pickle: &[u8]) -> Result<BTreeMap<String, Stored>, String> {
    if pickle.len() as u64 > MAX_PICKLE {
        return Err(format!("its pickle is longer than {MAX_PICKLE} bytes"));
    }
    let mut machine = Machine { rest: pickle, ..Machine::default() };
    let top = machine.run().map_err(|reason| format!("its pickle {reason}"))?;
    let parts = match &machine.values[top] {
        Value::Dict(items) => items,
        Value::Foreign(name) => {
            return Err(format!(
                "it holds an object of `{name}`, which a state dict does not need, {WANTED}"
            ));
        }
        _ => return Err(format!("it holds no dict of tensors, {WANTED}")),
    };
    if let Some(tensors) = machine.tensors(top)? {
        return Ok(tensors);
    }
    let is_tensor = |id: &Id| matches!(machine.values[*id], Value::Tensor(_));
    if let Some((key, value)) = parts.iter().find(|(_, value)| !is_tensor(value))
        && (parts.iter().any(|(_, value)| is_tensor(value)) || parts.len() == 1)
        && !matches!(machine.values[*value], Value::Dict(_))
    {
        let key = machine.shown(*key);
        return Err(match &machine.values[*value] {
            Value::Foreign(name) => {
                format!("it holds {key}, an object of `{name}`, which a state dict does not need")
            }
            _ => format!("it holds {key}, which is no tensor"),
        });
    }
    // A training checkpoint: the weights are one of its parts.
    let named = |wanted: &str| {
        let is = |key: &Id| matches!(&machine.values[*key], Value::Text(name) if &**name == wanted);
        parts.iter().find(|(key, _)| is(key)).map(|(_, value)| *value)
    };
    for name in WEIGHTS {
        if let Some(part) = named(name)
            && let Some(tensors) = machine.tensors(part)?
        {
            return Ok(tensors);
        }
    }
    let mut names: Vec<String> = parts.iter().map(|(key, _)| machine.shown(*key)).collect();
    if names.len() > SHOWN {
        names.truncate(SHOWN);
        names.push("…".to_owned());
    }
    Err(format!(
        "it holds a dict of {}, of which none is a state dict by a name that is known ({})",
        names.join(", "),
        WEIGHTS.join(", ")
    ))
}

/// What is asked for instead.
const WANTED: &str = "expected a state dict, as torch.save(model.state_dict(), …) writes it";

/// Names under which training scripts keep a model's weights, in the order in which they are looked for.
const WEIGHTS: [&str; 8] =
    ["model_state_dict", "state_dict", "model", "module", "policy", "policy_state_dict", "net", "weights"];

/// Parts that a message lists.
const SHOWN: usize = 8;

/// Index of a value in the machine's list.
type Id = usize;

#[derive(Debug)]
enum Value {
    None,
    Bool,
    /// Something of a class or function that a state dict does not need, by its name.
    Foreign(Rc<str>),
    Int(i64),
    Float,
    Text(Rc<str>),
    Tuple(Vec<Id>),
    List,
    Dict(Vec<(Id, Id)>),
    Known(Known),
    Storage {
        key: Rc<str>,
        kind: Kind,
        len: i64,
    },
    Tensor(Rc<Stored>),
}

/// What a pickle may name.
#[derive(Clone, Copy, Debug)]
enum Known {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(Kind),
}

fn known(module: &str, name: &str) -> Option<Known> {
    let storage = |kind| Some(Known::Storage(kind));
    match (module, name) {
        ("collections", "OrderedDict") => Some(Known::OrderedDict),
        ("torch._utils", "_rebuild_tensor_v2") => Some(Known::RebuildTensor),
        ("torch._utils", "_rebuild_parameter") => Some(Known::RebuildParameter),
        ("torch", "FloatStorage") => storage(Kind::Float),
        ("torch", "HalfStorage") => storage(Kind::Half),
        ("torch", "BFloat16Storage") => storage(Kind::BFloat16),
        ("torch", "DoubleStorage") => storage(Kind::Double),
        ("torch", "LongStorage") => storage(Kind::Int64),
        ("torch", "IntStorage") => storage(Kind::Int),
        ("torch", "ShortStorage") => storage(Kind::Int16),
        ("torch", "CharStorage") => storage(Kind::Int8),
        ("torch", "ByteStorage") => storage(Kind::Uint8),
        ("torch", "BoolStorage") => storage(Kind::Bool),
        _ => None,
    }
}

/// The pickle machine: a stack of values, and a memo of those that may come again.
#[derive(Debug, Default)]
struct Machine<'a> {
    rest: &'a [u8],
    values: Vec<Value>,
    stack: Vec<Id>,
    /// Heights of the stack at which a run of items began.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl Machine<'_> {
    /// Runs to the end and gives the value that is left.
    fn run(&mut self) -> Result<Id, String> {
        loop {
            if self.values.len() > MAX_VALUES {
                return Err(format!("builds more than {MAX_VALUES} values"));
            }
            match self.byte()? {
                b'.' => return self.pop(),
                0x80 => {
                    let version = self.byte()?;
                    if version > 5 {
                        return Err(format!("has protocol {version}, and at most 5 is known"));
                    }
                }
                0x95 => drop(self.take(8)?), // a frame's length, which reading does not need
                b'(' => self.marks.push(self.stack.len()),
                b'}' => self.push(Value::Dict(Vec::new())),
                b']' => self.push(Value::List),
                b')' => self.push(Value::Tuple(Vec::new())),
                b'N' => self.push(Value::None),
                0x88 | 0x89 => self.push(Value::Bool),
                b'a' => {
                    self.pop()?;
                    self.holder()?;
                }
                b'e' | 0x90 => {
                    self.since_mark()?;
                    self.holder()?;
                }
                0x8f => self.push(Value::List), // a set
                b'0' => drop(self.pop()?),
                b'1' => drop(self.since_mark()?),
                b'2' => {
                    let top = *self.stack.last().ok_or("takes a value that is not there")?;
                    self.stack.push(top);
                }
                b'B' => {
                    let length = u32::from_le_bytes(self.array()?);
                    self.bytes(length as usize)?;
                }
                b'C' => {
                    let length = self.byte()?;
                    self.bytes(usize::from(length))?;
                }
                b'G' => {
                    self.take(8)?;
                    self.push(Value::Float);
                }
                b'J' => {
                    let int = i32::from_le_bytes(self.array()?);
                    self.push(Value::Int(i64::from(int)));
                }
                b'K' => {
                    let int = self.byte()?;
                    self.push(Value::Int(i64::from(int)));
                }
                b'M' => {
                    let int = u16::from_le_bytes(self.array()?);
                    self.push(Value::Int(i64::from(int)));
                }
                0x8a => self.long()?,
                b'X' => {
                    let length = u32::from_le_bytes(self.array()?);
                    self.text(length as usize)?;
                }
                0x8c => {
                    let length = self.byte()?;
                    self.text(usize::from(length))?;
                }
                b'q' => {
                    let place = u32::from(self.byte()?);
                    self.memoise(place)?;
                }
                b'r' => {
                    let place = u32::from_le_bytes(self.array()?);
                    self.memoise(place)?;
                }
                0x94 => self.memoise(self.memo.len() as u32)?,
                b'h' => {
                    let place = u32::from(self.byte()?);
                    self.recall(place)?;
                }
                b'j' => {
                    let place = u32::from_le_bytes(self.array()?);
                    self.recall(place)?;
                }
                b't' => {
                    let items = self.since_mark()?;
                    self.push(Value::Tuple(items));
                }
                count @ 0x85..=0x87 => {
                    let mut items = Vec::new();
                    for _ in 0..count - 0x84 {
                        items.insert(0, self.pop()?);
                    }
                    self.push(Value::Tuple(items));
                }
                b's' => {
                    let (value, key) = (self.pop()?, self.pop()?);
                    self.set(&[key, value])?;
                }
                b'u' => {
                    let items = self.since_mark()?;
                    self.set(&items)?;
                }
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.name(&module, &name)?;
                }
                0x93 => {
                    let (name, module) = (self.pop_text()?, self.pop_text()?);
                    self.name(&module, &name)?;
                }
                b'Q' => self.storage()?,
                b'R' => self.reduce()?,
                0x81 => self.reduce()?, // makes an object of a class and its arguments
                0x92 => {
                    self.pop()?; // arguments by name
                    self.reduce()?;
                }
                b'b' => {
                    // An ordered dict's attributes, which torch uses for its own version notes, or a foreign
                    // object's.
                    self.pop()?;
                    self.holder()?;
                }
                opcode => {
                    return Err(format!("has opcode 0x{opcode:02x}, which a state dict does not need"));
                }
            }
        }
    }

    fn push(&mut self, value: Value) {
        self.values.push(value);
        self.stack.push(self.values.len() - 1);
    }

    fn pop(&mut self) -> Result<Id, String> {
        if self.marks.last().is_some_and(|mark| *mark >= self.stack.len()) {
            return Err("takes a value that is not there".to_owned());
        }
        self.stack.pop().ok_or_else(|| "takes a value that is not there".to_owned())
    }

    fn pop_text(&mut self) -> Result<Rc<str>, String> {
        let id = self.pop()?;
        match &self.values[id] {
            Value::Text(text) => Ok(text.clone()),
            _ => Err("has something else where a string is expected".to_owned()),
        }
    }

    fn since_mark(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().ok_or("closes a run of items that was not opened")?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    /// Puts keys and values, in turn, into the dict at the top of the stack; a foreign object forgets them.
    fn set(&mut self, items: &[Id]) -> Result<(), String> {
        if items.len() % 2 == 1 {
            return Err("sets a key without a value".to_owned());
        }
        let top = *self.stack.last().ok_or("takes a value that is not there")?;
        match &mut self.values[top] {
            Value::Dict(known) => known.extend(items.chunks(2).map(|pair| (pair[0], pair[1]))),
            Value::Foreign(_) => {}
            _ => return Err("changes something that is no dict".to_owned()),
        }
        Ok(())
    }

    /// Refuses to put something into the value at the top of the stack if it can hold nothing.
    fn holder(&self) -> Result<(), String> {
        let top = *self.stack.last().ok_or("takes a value that is not there")?;
        match &self.values[top] {
            Value::List | Value::Dict(_) | Value::Foreign(_) => Ok(()),
            _ => Err("changes something that holds nothing".to_owned()),
        }
    }

    /// Bytes, which a state dict has no use for.
    fn bytes(&mut self, length: usize) -> Result<(), String> {
        self.take(length)?;
        self.push(Value::Foreign("bytes".into()));
        Ok(())
    }

    /// The tensors of a dict by name; none where something else is in it.
    fn tensors(&self, id: Id) -> Result<Option<BTreeMap<String, Stored>>, String> {
        let Value::Dict(items) = &self.values[id] else { return Ok(None) };
        let mut tensors = BTreeMap::new();
        for (key, value) in items {
            let (Value::Text(name), Value::Tensor(tensor)) = (&self.values[*key], &self.values[*value])
            else {
                return Ok(None);
            };
            if tensors.insert(name.to_string(), (**tensor).clone()).is_some() {
                return Err(format!("it holds `{name}` twice"));
            }
        }
        Ok((!tensors.is_empty()).then_some(tensors))
    }

    /// A key for a message.
    fn shown(&self, id: Id) -> String {
        match &self.values[id] {
            Value::Text(text) => format!("`{}`", text.escape_debug().take(80).collect::<String>()),
            Value::Int(int) => int.to_string(),
            _ => "something that is no text".to_owned(),
        }
    }

    fn memoise(&mut self, place: u32) -> Result<(), String> {
        let top = *self.stack.last().ok_or("remembers a value that is not there")?;
        self.memo.insert(place, top);
        Ok(())
    }

    fn recall(&mut self, place: u32) -> Result<(), String> {
        let id = *self.memo.get(&place).ok_or("recalls a value that was not remembered")?;
        self.stack.push(id);
        Ok(())
    }

    fn take(&mut self, count: usize) -> Result<&[u8], String> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or("ends too early")?;
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        Ok(self.take(N)?.try_into().expect("as many bytes as were asked for"))
    }

    fn line(&mut self) -> Result<String, String> {
        let length = self.rest.iter().position(|byte| *byte == b'\n').ok_or("ends too early")?;
        let line = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.take(1)?;
        Ok(line)
    }

    fn text(&mut self, length: usize) -> Result<(), String> {
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| "has text that is no UTF-8")?.into();
        self.push(Value::Text(text));
        Ok(())
    }

    /// An integer of up to eight little-endian bytes.
    fn long(&mut self) -> Result<(), String> {
        let length = usize::from(self.byte()?);
        if length > 8 {
            self.take(length)?;
            self.push(Value::Foreign("int".into())); // no size of a tensor
            return Ok(());
        }
        let bytes = self.take(length)?;
        let sign = if bytes.last().is_some_and(|byte| *byte >= 0x80) { 0xff } else { 0 };
        let mut wide = [sign; 8];
        wide[..length].copy_from_slice(bytes);
        self.push(Value::Int(i64::from_le_bytes(wide)));
        Ok(())
    }

    fn name(&mut self, module: &str, name: &str) -> Result<(), String> {
        self.push(match known(module, name) {
            Some(known) => Value::Known(known),
            None => {
                Value::Foreign(format!("{module}.{name}").escape_debug().take(80).collect::<String>().into())
            }
        });
        Ok(())
    }
}
