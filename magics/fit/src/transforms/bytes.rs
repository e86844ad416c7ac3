//! Bytes to numbers in one pass, whichever way an image's pixels lie. libtorch would make them numbers first and then
//! compute, and is slow where the colours of a pixel lie beside each other, as decoders leave them.

use super::size;
use crate::error::Result;
use std::mem::MaybeUninit;
use tch::{Device, Kind as TKind, Tensor};

/// An image of bytes in memory with a number in the place of each byte, by a table for each channel; `None` for any other.
pub(super) fn mapped(image: &Tensor, tables: &[[f32; 256]]) -> Result<Option<Tensor>> {
    let (channels, height, width) = size(image)?;
    if image.kind() != TKind::Uint8 || image.device() != Device::Cpu || channels as usize != tables.len() {
        return Ok(None);
    }
    let [height, width] = [height, width].map(|side| side as usize);
    let stride: Vec<usize> = image.stride().iter().map(|stride| *stride as usize).collect();
    let &[plane, row, step @ 1..=usize::MAX] = stride.as_slice() else {
        return Ok(None);
    };
    let last = (tables.len() - 1) * plane + (height - 1) * row + (width - 1) * step;
    let numbers = Tensor::f_empty(image.size(), (TKind::Float, Device::Cpu))?;
    // SAFETY: the storage of a tensor on the CPU reaches from its first number to its last, which is `last` further on;
    // libtorch's strides are not negative. Both tensors live longer than the slices, and nobody else has `numbers`, which
    // is contiguous and of which nothing is read before it is written.
    let (from, to) = unsafe {
        (
            std::slice::from_raw_parts(image.data_ptr().cast::<u8>(), last + 1),
            std::slice::from_raw_parts_mut(
                numbers.data_ptr().cast::<MaybeUninit<f32>>(),
                tables.len() * height * width,
            ),
        )
    };
    for (channel, (table, to)) in tables.iter().zip(to.chunks_exact_mut(height * width)).enumerate() {
        for (y, to) in to.chunks_exact_mut(width).enumerate() {
            let bytes = from[channel * plane + y * row..].iter().step_by(step);
            for (number, byte) in to.iter_mut().zip(bytes) {
                number.write(table[usize::from(*byte)]);
            }
        }
    }
    Ok(Some(numbers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layout_gives_the_same_numbers() {
        let _turn = crate::tests::in_turn();
        let tables: Vec<[f32; 256]> = (0..3)
            .map(|channel| std::array::from_fn(|byte| (1000 * channel + byte) as f32))
            .collect();
        let whole = Tensor::randint(256, [3, 7, 9], (TKind::Uint8, Device::Cpu));
        let beside = whole.permute([1, 2, 0]).contiguous().permute([2, 0, 1]);
        let add = Tensor::from_slice(&[0f32, 1000.0, 2000.0]).view([3, 1, 1]);
        for image in [&whole, &beside] {
            for part in [
                image.shallow_clone(),
                image.narrow(1, 2, 4).narrow(2, 3, 5),
                image.transpose(1, 2),
            ] {
                let numbers = mapped(&part, &tables).unwrap().unwrap();
                assert_eq!(numbers, part.to_kind(TKind::Float) + &add);
                assert!(numbers.is_contiguous());
            }
        }
        // One byte is the image of all its places.
        let even = Tensor::from_slice(&[5u8]).view([1, 1, 1]).expand([1, 3, 4], false);
        assert!(mapped(&even, &tables[..1]).unwrap().is_none());
        assert!(mapped(&whole, &tables[..2]).unwrap().is_none());
        assert!(mapped(&whole.to_kind(TKind::Float), &tables).unwrap().is_none());
    }
}
