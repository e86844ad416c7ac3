//! Transforms of images against torchvision's on tensors (`metrics.py`).

use super::{in_turn, tensors};
use lightcell::prelude::{Kind, SampleRng, Tensor};
use lightcell::transforms::*;

#[test]
fn what_is_not_random_is_torchvisions() {
    let _turn = in_turn();
    let golden = tensors("transforms.safetensors");
    let image = &golden["image"];
    let floats = image.to_kind(Kind::Float) / 255.0;
    let apply = |transform: &dyn Transform, image: &Tensor| {
        transform.apply(image.shallow_clone(), &mut SampleRng::new(1)).unwrap()
    };
    let check = |name: &str, ours: Tensor, tolerance: f64| {
        let theirs = &golden[name];
        assert_eq!((ours.size(), ours.kind()), (theirs.size(), theirs.kind()), "{name}");
        let difference = (ours.to_kind(Kind::Float) - theirs.to_kind(Kind::Float))
            .abs()
            .max()
            .double_value(&[]);
        assert!(difference <= tolerance, "{name}: {difference}");
    };
    // Of bytes, the same to the last; of numbers, to the last bits.
    check("resize_24", apply(&Resize::new(24), image), 0.0);
    check("resize_60x20", apply(&Resize::exactly(60, 20), &floats), 1e-6);
    check("center_crop_20", apply(&CenterCrop::new(20), image), 0.0);
    check("center_crop_44", apply(&CenterCrop::new(44), image), 0.0);
    check("flip", apply(&RandomHorizontalFlip::new(1.0), image), 0.0);
    let normalize = Normalize::new(&[0.485, 0.456, 0.406], &[0.229, 0.224, 0.225]);
    check("normalize", apply(&normalize, &floats), 1e-6);
    check("normalize", apply(&normalize, image), 1e-6);
    check("brightness", adjust_brightness(&floats, 1.3).unwrap(), 1e-6);
    check("contrast", adjust_contrast(&floats, 0.6).unwrap(), 1e-6);
    check("saturation", adjust_saturation(&floats, 1.7).unwrap(), 1e-6);
    check("hue", adjust_hue(&floats, -0.2).unwrap(), 1e-5);
    check("brightness_u8", adjust_brightness(image, 1.3).unwrap(), 0.0);
    assert_eq!(apply(&ConvertImageDtype, image), floats);
}
