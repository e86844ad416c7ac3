//! Reads a pickle: a stack machine over a table of nodes, which refer to each other by number.
//!
//! Nothing that it makes is larger than the file is long: texts are copied once, and a node that is used many times is one
//! node. Only the tree that is given in the end could be larger, so it is counted while it is made.

mod objects;

use crate::globals::{self, Global};
use crate::opcodes::*;
use crate::tensor::DType;
use crate::value::Value;
use crate::{Error, Result, fault};
use std::collections::HashMap;
use std::rc::Rc;

/// No file of PyTorch's comes near: about twenty nodes for a tensor.
const MOST_NODES: usize = 10_000_000;

/// How deep containers may lie in each other.
const DEEPEST: usize = 100;

type Id = u32;

enum Node {
    /// What cannot change.
    Leaf(Value),
    List(Vec<Id>),
    Tuple(Vec<Id>),
    Set(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// An object that is its dictionary.
    Namespace(Vec<(Id, Id)>),
    Global(Global),
    Storage(Box<StorageRef>),
}

struct StorageRef {
    /// Without one, it counts bytes.
    dtype: Option<DType>,
    key: Rc<str>,
    len: u64,
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    nodes: Vec<Node>,
    stack: Vec<Id>,
    /// Where on the stack the marks are.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

/// The object that a pickle makes, and how many bytes it was.
pub(crate) fn read(bytes: &[u8]) -> Result<(Value, usize)> {
    let mut machine = Machine {
        bytes,
        at: 0,
        nodes: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
    };
    let read = machine.run().and_then(|object| {
        let mut left = (10_000 + bytes.len()).min(MOST_NODES);
        machine.tree(object, 0, &mut left)
    });
    match read {
        Ok(value) => Ok((value, machine.at)),
        Err(Error::Format(text)) => fault(format!("at byte {} of its pickle: {text}", machine.at)),
        Err(error) => Err(error),
    }
}

impl<'a> Machine<'a> {
    fn run(&mut self) -> Result<Id> {
        loop {
            let code = self.byte()?;
            match code {
                PROTO => {
                    let protocol = self.byte()?;
                    if !(2..=5).contains(&protocol) {
                        return fault(format!("it is of protocol {protocol}, not of 2 to 5"));
                    }
                }
                FRAME => drop(self.take(8)?),
                STOP => return self.pop(),
                MARK => self.marks.push(self.stack.len()),
                POP => drop(self.pop()?),
                POP_MARK => drop(self.marked()?),
                DUP => {
                    let top = self.top()?;
                    self.stack.push(top);
                }
                NONE => self.leaf(Value::None)?,
                NEWTRUE => self.leaf(Value::Bool(true))?,
                NEWFALSE => self.leaf(Value::Bool(false))?,
                BININT1 | BININT2 | BININT | LONG1 | LONG4 => self.whole(code)?,
                BINFLOAT => {
                    let number = f64::from_be_bytes(self.array()?);
                    self.leaf(Value::Float(number))?;
                }
                BINUNICODE | SHORT_BINUNICODE | BINUNICODE8 => {
                    let text = self.counted(code)?;
                    let Ok(text) = std::str::from_utf8(text) else {
                        return fault("a text is not UTF-8");
                    };
                    self.leaf(Value::text(text))?;
                }
                // What Python 2 calls a text.
                SHORT_BINSTRING | BINSTRING => {
                    let text: String = self.counted(code)?.iter().map(|byte| char::from(*byte)).collect();
                    self.leaf(Value::text(&text))?;
                }
                BINBYTES | SHORT_BINBYTES | BINBYTES8 => {
                    let bytes = self.counted(code)?.into();
                    self.leaf(Value::Bytes(bytes))?;
                }
                EMPTY_LIST => self.push(Node::List(Vec::new()))?,
                EMPTY_TUPLE => self.push(Node::Tuple(Vec::new()))?,
                EMPTY_DICT => self.push(Node::Dict(Vec::new()))?,
                EMPTY_SET => self.push(Node::Set(Vec::new()))?,
                TUPLE1 | TUPLE2 | TUPLE3 => {
                    let count = usize::from(code - TUPLE1) + 1;
                    let items = self.last(count)?;
                    self.push(Node::Tuple(items))?;
                }
                TUPLE => {
                    let items = self.marked()?;
                    self.push(Node::Tuple(items))?;
                }
                LIST => {
                    let items = self.marked()?;
                    self.push(Node::List(items))?;
                }
                FROZENSET => {
                    let items = self.marked()?;
                    self.push(Node::Set(items))?;
                }
                DICT => {
                    let entries = pairs(&self.marked()?)?;
                    self.push(Node::Dict(entries))?;
                }
                APPEND => {
                    let item = self.pop()?;
                    self.append(vec![item])?;
                }
                APPENDS | ADDITEMS => {
                    let items = self.marked()?;
                    self.append(items)?;
                }
                SETITEM => {
                    let items = self.last(2)?;
                    self.set(&items)?;
                }
                SETITEMS => {
                    let items = self.marked()?;
                    self.set(&items)?;
                }
                BINPUT => {
                    let key = u32::from(self.byte()?);
                    self.remember(key)?;
                }
                LONG_BINPUT => {
                    let key = u32::from_le_bytes(self.array()?);
                    self.remember(key)?;
                }
                MEMOIZE => self.remember(self.memo.len() as u32)?,
                BINGET => {
                    let key = u32::from(self.byte()?);
                    self.recall(key)?;
                }
                LONG_BINGET => {
                    let key = u32::from_le_bytes(self.array()?);
                    self.recall(key)?;
                }
                GLOBAL => {
                    let module = self.line()?;
                    let name = self.line()?;
                    let global = globals::find(&module, &name)?;
                    self.push(Node::Global(global))?;
                }
                STACK_GLOBAL => {
                    let names = self.last(2)?;
                    let global = globals::find(&self.text(names[0])?, &self.text(names[1])?)?;
                    self.push(Node::Global(global))?;
                }
                BINPERSID => {
                    let id = self.pop()?;
                    let storage = self.storage(id)?;
                    self.push(storage)?;
                }
                REDUCE | NEWOBJ => {
                    let call = self.last(2)?;
                    let made = self.call(call[0], call[1], 0)?;
                    self.push(made)?;
                }
                BUILD => {
                    let state = self.pop()?;
                    self.build(state)?;
                }
                other => {
                    return fault(format!(
                        "instruction {other:#04x} is not among those that plain data need"
                    ));
                }
            }
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len());
        let Some(end) = end else {
            return fault(format!(
                "{count} bytes should follow, {} do",
                self.bytes.len() - self.at
            ));
        };
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    /// Bytes with their number before them.
    fn counted(&mut self, code: u8) -> Result<&'a [u8]> {
        let count = match code {
            SHORT_BINUNICODE | SHORT_BINSTRING | SHORT_BINBYTES | LONG1 => u64::from(self.byte()?),
            BINUNICODE8 | BINBYTES8 => u64::from_le_bytes(self.array()?),
            _ => u64::from(u32::from_le_bytes(self.array()?)),
        };
        let Ok(count) = usize::try_from(count) else {
            return fault(format!("a text of {count} bytes"));
        };
        self.take(count)
    }

    fn line(&mut self) -> Result<String> {
        let rest = &self.bytes[self.at..];
        // No name is longer.
        let end = rest.iter().take(1000).position(|byte| *byte == b'\n');
        let Some(end) = end else {
            return fault("a name does not end");
        };
        let line = self.take(end + 1)?;
        Ok(String::from_utf8_lossy(&line[..end]).into_owned())
    }

    fn whole(&mut self, code: u8) -> Result<()> {
        let value = match code {
            BININT1 => Value::Int(i64::from(self.byte()?)),
            BININT2 => Value::Int(i64::from(u16::from_le_bytes(self.array()?))),
            BININT => Value::Int(i64::from(i32::from_le_bytes(self.array()?))),
            _ => {
                let bytes = self.counted(code)?;
                let negative = bytes.last().is_some_and(|last| last & 0x80 != 0);
                if bytes.len() > 8 {
                    Value::Long(bytes.into())
                } else {
                    let mut whole = [if negative { 0xff } else { 0 }; 8];
                    whole[..bytes.len()].copy_from_slice(bytes);
                    Value::Int(i64::from_le_bytes(whole))
                }
            }
        };
        self.leaf(value)
    }

    fn leaf(&mut self, value: Value) -> Result<()> {
        self.push(Node::Leaf(value))
    }

    fn push(&mut self, node: Node) -> Result<()> {
        let id = self.add(node)?;
        self.stack.push(id);
        Ok(())
    }

    fn add(&mut self, node: Node) -> Result<Id> {
        if self.nodes.len() >= MOST_NODES {
            return fault(format!("it holds more than {MOST_NODES} objects"));
        }
        self.nodes.push(node);
        Ok((self.nodes.len() - 1) as Id)
    }

    /// Nothing below the last mark may be taken before the mark is.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn last(&mut self, count: usize) -> Result<Vec<Id>> {
        if self.stack.len() < self.floor() + count {
            return fault("its stack is empty");
        }
        Ok(self.stack.split_off(self.stack.len() - count))
    }

    fn pop(&mut self) -> Result<Id> {
        Ok(self.last(1)?[0])
    }

    fn top(&self) -> Result<Id> {
        match self.stack.last() {
            Some(top) if self.stack.len() > self.floor() => Ok(*top),
            _ => fault("its stack is empty"),
        }
    }

    fn marked(&mut self) -> Result<Vec<Id>> {
        let Some(mark) = self.marks.pop() else {
            return fault("a mark is missing");
        };
        Ok(self.stack.split_off(mark))
    }

    fn remember(&mut self, key: u32) -> Result<()> {
        let top = self.top()?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, key: u32) -> Result<()> {
        let Some(id) = self.memo.get(&key) else {
            return fault(format!("it refers to number {key}, which it has not made"));
        };
        self.stack.push(*id);
        Ok(())
    }

    fn node(&self, id: Id) -> &Node {
        &self.nodes[id as usize]
    }

    fn append(&mut self, more: Vec<Id>) -> Result<()> {
        let top = self.top()?;
        match &mut self.nodes[top as usize] {
            Node::List(items) | Node::Set(items) => items.extend(more),
            _ => return fault("it appends to what is no list"),
        }
        Ok(())
    }

    fn set(&mut self, items: &[Id]) -> Result<()> {
        let (top, more) = (self.top()?, pairs(items)?);
        match &mut self.nodes[top as usize] {
            Node::Dict(entries) | Node::Namespace(entries) => entries.extend(more),
            _ => return fault("it sets entries of what is no dictionary"),
        }
        Ok(())
    }

    fn text(&self, id: Id) -> Result<Rc<str>> {
        match self.node(id) {
            Node::Leaf(Value::Str(text)) => Ok(text.clone()),
            _ => fault("a text is missing"),
        }
    }

    fn number(&self, id: Id) -> Result<u64> {
        match self.node(id) {
            Node::Leaf(value) => value
                .as_u64()
                .map_or_else(|| fault("a number is missing or negative"), Ok),
            _ => fault("a number is missing"),
        }
    }

    fn items(&self, id: Id) -> Result<&[Id]> {
        match self.node(id) {
            Node::Tuple(items) | Node::List(items) | Node::Set(items) => Ok(items),
            _ => fault("a tuple is missing"),
        }
    }

    fn numbers(&self, id: Id) -> Result<Vec<u64>> {
        self.items(id)?.iter().map(|id| self.number(*id)).collect()
    }

    /// Gives the object at the top its state.
    fn build(&mut self, state: Id) -> Result<()> {
        let more = match self.node(state) {
            Node::Dict(entries) => entries.clone(),
            _ => Vec::new(),
        };
        let top = self.top()?;
        match &mut self.nodes[top as usize] {
            Node::Namespace(entries) => entries.extend(more),
            Node::Dict(_) | Node::Leaf(Value::Tensor(_)) => {}
            _ => return fault("it sets the state of what has none"),
        }
        Ok(())
    }

    /// The object as a tree.
    fn tree(&self, id: Id, depth: usize, left: &mut usize) -> Result<Value> {
        let Some(less) = left.checked_sub(1) else {
            return fault("it holds the same objects too many times");
        };
        *left = less;
        if depth > DEEPEST {
            return fault(format!("more than {DEEPEST} containers lie in each other"));
        }
        let mut all =
            |items: &[Id]| -> Result<Vec<Value>> { items.iter().map(|id| self.tree(*id, depth + 1, left)).collect() };
        Ok(match self.node(id) {
            Node::Leaf(value) => value.clone(),
            Node::List(items) => Value::List(all(items)?),
            Node::Tuple(items) => Value::Tuple(all(items)?),
            Node::Set(items) => Value::Set(all(items)?),
            Node::Dict(entries) | Node::Namespace(entries) => {
                let pair = |(key, value): &(Id, Id)| {
                    Ok((self.tree(*key, depth + 1, left)?, self.tree(*value, depth + 1, left)?))
                };
                Value::Dict(entries.iter().map(pair).collect::<Result<_>>()?)
            }
            Node::Global(Global::DType(dtype)) => Value::DType(*dtype),
            Node::Global(_) => return fault("a type stands where a value should"),
            Node::Storage(_) => return fault("a storage stands where a tensor should"),
        })
    }
}

fn pairs(items: &[Id]) -> Result<Vec<(Id, Id)>> {
    let (pairs, rest) = items.as_chunks::<2>();
    if !rest.is_empty() {
        return fault("an entry of a dictionary has no value");
    }
    Ok(pairs.iter().map(|[key, value]| (*key, *value)).collect())
}
