//! What torch.save's pickles build: storages, tensors, parameters and ordered dicts.

use super::{Id, Known, MAX_AXES, Machine, Stored, Value};

impl Machine<'_> {
    /// `("storage", kind, key, device, length)` becomes a storage.
    pub(super) fn storage(&mut self) -> Result<(), String> {
        let id = self.pop()?;
        let refuse = || "names a storage otherwise than torch.save does".to_owned();
        let Value::Tuple(items) = &self.values[id] else { return Err(refuse()) };
        let [tag, kind, key, _device, len] = items[..] else { return Err(refuse()) };
        match (&self.values[tag], &self.values[kind], &self.values[key], &self.values[len]) {
            (Value::Text(tag), Value::Known(Known::Storage(kind)), Value::Text(key), Value::Int(len))
                if &**tag == "storage" && (0..1 << 48).contains(len) =>
            {
                self.push(Value::Storage { key: key.clone(), kind: *kind, len: *len });
                Ok(())
            }
            (_, Value::Foreign(name), _, _) => {
                let name = name.clone();
                self.push(Value::Foreign(name));
                Ok(())
            }
            _ => Err(refuse()),
        }
    }

    /// Calls one of the known names, whose results are built here.
    pub(super) fn reduce(&mut self) -> Result<(), String> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        if let Value::Foreign(name) = &self.values[function] {
            let name = name.clone();
            self.push(Value::Foreign(name)); // nothing is called
            return Ok(());
        }
        let Value::Tuple(arguments) = &self.values[arguments] else {
            return Err("calls something without a tuple of arguments".to_owned());
        };
        let built = match &self.values[function] {
            Value::Known(Known::OrderedDict) if arguments.is_empty() => Value::Dict(Vec::new()),
            Value::Known(Known::RebuildTensor) => match arguments.first().map(|id| &self.values[*id]) {
                Some(Value::Foreign(name)) => Value::Foreign(name.clone()), // numbers that libtorch has no kind for
                _ => Value::Tensor(self.tensor(arguments)?.into()),
            },
            Value::Known(Known::RebuildParameter) if !arguments.is_empty() => {
                match &self.values[arguments[0]] {
                    Value::Tensor(tensor) => Value::Tensor(tensor.clone()),
                    Value::Foreign(name) => Value::Foreign(name.clone()),
                    _ => return Err("makes a parameter of something that is no tensor".to_owned()),
                }
            }
            _ => return Err("calls something that is no function".to_owned()),
        };
        self.push(built);
        Ok(())
    }

    /// `(storage, offset, shape, strides, …)` as a tensor that lies inside its storage.
    fn tensor(&self, arguments: &[Id]) -> Result<Stored, String> {
        let [storage, offset, shape, strides, ..] = *arguments else {
            return Err("rebuilds a tensor from too little".to_owned());
        };
        let (Value::Storage { key, kind, len }, Value::Int(offset)) =
            (&self.values[storage], &self.values[offset])
        else {
            return Err("rebuilds a tensor from something that is no storage".to_owned());
        };
        let (shape, strides) = (self.sizes(shape)?, self.sizes(strides)?);
        let outside = || format!("has a tensor of shape {shape:?} outside its storage of {len}");
        if shape.len() != strides.len() {
            return Err(outside());
        }
        let mut count = 1i64;
        let mut last = *offset;
        for (size, stride) in shape.iter().zip(&strides) {
            count = count.checked_mul(*size).ok_or_else(outside)?;
            let reach = (size - 1).max(0).checked_mul(*stride).ok_or_else(outside)?;
            last = last.checked_add(reach).ok_or_else(outside)?;
        }
        // A tensor has no more elements than its storage, so a stride of zero cannot make it huge.
        if *offset < 0 || count > *len || (count > 0 && last >= *len) {
            return Err(outside());
        }
        Ok(Stored { key: key.to_string(), kind: *kind, storage_len: *len, offset: *offset, shape, strides })
    }

    /// A short tuple of numbers that are not negative.
    fn sizes(&self, id: Id) -> Result<Vec<i64>, String> {
        let Value::Tuple(items) = &self.values[id] else {
            return Err("has a shape that is no tuple".to_owned());
        };
        if items.len() > MAX_AXES {
            return Err(format!("has a tensor of {} axes, expected at most {MAX_AXES}", items.len()));
        }
        let mut sizes = Vec::with_capacity(items.len());
        for item in items {
            match &self.values[*item] {
                Value::Int(size) if *size >= 0 => sizes.push(*size),
                _ => return Err("has a size that is no whole number of at least 0".to_owned()),
            }
        }
        Ok(sizes)
    }
}
