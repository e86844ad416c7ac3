//! Where the variables of a notebook lie between its cells.
//!
//! evcxr writes such a store into each cell's text, generic over the variables' types, and rustc compiles it anew with each
//! cell that has a variable: more than half of the time of a small cell. This one, which the kernel puts in its place, is
//! compiled once; generic is only what unpacks a value. It has the same names and the same one field, since the cells before
//! the library is there are compiled with evcxr's, and hand theirs on.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::Arc;

/// What evcxr reads on standard output before the name of a variable whose type is another one now.
pub const VARIABLE_CHANGED_TYPE: &str = "EVCXR_VARIABLE_CHANGED_TYPE:";
/// What evcxr reads on standard output when a `?` ended the cell.
pub const USER_ERROR_OCCURRED: &str = "EVCXR_ERROR_OCCURRED";

/// The variables by name.
#[derive(Debug, Default)]
pub struct VariableStore {
    variables: HashMap<String, Box<dyn Any + 'static>>,
}

/// A new store, for the process's lifetime.
pub fn create_variable_store() -> *mut VariableStore {
    Box::into_raw(Box::default())
}

impl VariableStore {
    /// An empty store.
    pub fn new() -> VariableStore {
        VariableStore::default()
    }

    /// Keeps a variable.
    pub fn put_variable<T: 'static>(&mut self, name: &str, value: T) {
        self.put(name, Box::new(value));
    }

    #[inline(never)]
    fn put(&mut self, name: &str, value: Box<dyn Any>) {
        self.variables.insert(name.to_owned(), value);
    }

    /// Whether the variable is not there or still of this type; says so when it is of another.
    pub fn check_variable<T: 'static>(&mut self, name: &str) -> bool {
        self.check(name, TypeId::of::<T>())
    }

    #[inline(never)]
    fn check(&self, name: &str, of: TypeId) -> bool {
        let same = self
            .variables
            .get(name)
            .is_none_or(|value| value.as_ref().type_id() == of);
        if !same {
            // The worker swallows the first line, which it knows by its words, and the kernel says it in others.
            eprintln!("The type of the variable {name} was redefined, so was lost.");
            println!("{VARIABLE_CHANGED_TYPE}{name}");
        }
        same
    }

    /// Takes a variable out, after [`VariableStore::check_variable`].
    ///
    /// # Panics
    /// When it is not there, or of another type.
    pub fn take_variable<T: 'static>(&mut self, name: &str) -> T {
        match self.take(name).downcast() {
            Ok(value) => *value,
            Err(_) => changed(name),
        }
    }

    #[inline(never)]
    fn take(&mut self, name: &str) -> Box<dyn Any> {
        match self.variables.remove(name) {
            Some(value) => value,
            None => panic!("the variable {name} is gone"),
        }
    }

    /// A variable that cells share, made when it is not there.
    ///
    /// # Panics
    /// When it is of another type.
    pub fn lazy_arc<T: 'static, F: FnOnce() -> T>(&mut self, name: &str, create: F) -> Arc<T> {
        if !self.variables.contains_key(name) {
            self.put(name, Box::new(Arc::new(create())));
        }
        match self
            .variables
            .get(name)
            .and_then(|value| value.downcast_ref::<Arc<T>>())
        {
            Some(value) => Arc::clone(value),
            None => changed(name),
        }
    }

    /// Takes over the variables of another store.
    pub fn merge(&mut self, other: VariableStore) {
        self.variables.extend(other.variables);
    }
}

#[cold]
#[inline(never)]
fn changed(name: &str) -> ! {
    panic!("the variable {name} is of another type")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_comes_back_as_it_was() {
        let mut store = VariableStore::new();
        store.put_variable("x", vec![1, 2]);
        assert!(store.check_variable::<Vec<i32>>("x"));
        assert!(store.check_variable::<u8>("not there"));
        assert_eq!(store.take_variable::<Vec<i32>>("x"), [1, 2]);
        let gone = std::panic::AssertUnwindSafe(|| store.take_variable::<Vec<i32>>("x"));
        assert!(std::panic::catch_unwind(gone).is_err());
    }

    #[test]
    fn one_of_another_type_is_noticed() {
        let mut store = VariableStore::new();
        store.put_variable("x", 1_i32);
        assert!(!store.check_variable::<u32>("x"));
        let wrong = std::panic::AssertUnwindSafe(|| store.take_variable::<u32>("x"));
        assert!(std::panic::catch_unwind(wrong).is_err());
    }

    #[test]
    fn a_shared_one_is_made_once_and_stores_merge() {
        let mut store = VariableStore::new();
        let first = store.lazy_arc("x", || 1);
        assert!(Arc::ptr_eq(&first, &store.lazy_arc("x", || 2)));
        let mut other = VariableStore::new();
        other.put_variable("y", 3_i32);
        store.merge(other);
        assert_eq!(store.take_variable::<i32>("y"), 3);
    }
}
