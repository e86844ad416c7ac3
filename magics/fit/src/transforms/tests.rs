//! What is random, and what cannot be done. What is not random is compared with torchvision's in `tests/oracles`.

use super::*;
use crate::data::Dataset;
use crate::data::TensorDataset;
use tch::Device;

fn image(height: i64, width: i64) -> Tensor {
    let numbers = Tensor::arange(3 * height * width, (TKind::Int64, Device::Cpu));
    numbers.remainder(255).view([3, height, width]).to_kind(TKind::Uint8) + 1
}

fn apply(transform: &dyn Transform, image: &Tensor, seed: u64) -> Tensor {
    transform
        .apply(image.shallow_clone(), &mut SampleRng::new(seed))
        .unwrap()
}

#[test]
fn random_transforms_depend_on_the_seed_alone() {
    let _turn = crate::tests::in_turn();
    let image = image(12, 16);
    let transforms: Vec<Box<dyn Transform>> = vec![
        Box::new(RandomCrop::new(7).padding(2)),
        Box::new(RandomHorizontalFlip::new(0.5)),
        Box::new(
            ColorJitter::new()
                .brightness(0.5)
                .contrast(0.5)
                .saturation(0.5)
                .hue(0.3),
        ),
        Box::new(RandomErasing::new(1.0)),
        Box::new(
            Compose::new()
                .then(RandomCrop::exactly(5, 9))
                .then(RandomErasing::new(0.5).value(3.0)),
        ),
    ];
    for (at, transform) in transforms.iter().enumerate() {
        let first: Vec<Tensor> = (0..8).map(|seed| apply(&**transform, &image, seed)).collect();
        for (seed, result) in first.iter().enumerate() {
            assert_eq!(*result, apply(&**transform, &image, seed as u64), "{at}");
        }
        assert!(first.iter().any(|result| *result != first[0]), "{at}");
        assert_eq!(image.kind(), first[0].kind(), "{at}");
    }
}

#[test]
fn erasing_paints_over_a_rectangle_and_leaves_the_original() {
    let _turn = crate::tests::in_turn();
    let image = image(40, 40);
    for seed in 0..20 {
        let erased = geometry::zeros(&apply(&RandomErasing::new(1.0), &image, seed));
        assert!((3 * 20..=3 * 560).contains(&erased) && erased % 3 == 0, "{erased}");
    }
    assert_eq!(geometry::zeros(&image), 0);
    assert_eq!(geometry::zeros(&apply(&RandomErasing::new(0.0), &image, 1)), 0);
}

#[test]
fn what_is_no_image_is_refused() {
    let _turn = crate::tests::in_turn();
    let message = |transform: &dyn Transform, image: Tensor| {
        let error = transform.apply(image, &mut SampleRng::new(1)).unwrap_err();
        error.message().to_owned()
    };
    assert_eq!(
        message(&RandomCrop::new(20), image(30, 10)),
        "an image of 30 by 10 has no part of 20 by 20"
    );
    assert_eq!(
        message(&Resize::new(4), image(4, 4).view([48])),
        "an image is [channels, height, width], not [48]"
    );
    assert_eq!(
        message(&Normalize::new(&[0.5], &[0.5]), image(4, 4)),
        "an image of 3 channels is not normalised with 1 means and 1 deviations"
    );
    assert_eq!(
        message(&ColorJitter::new().hue(0.5), image(4, 4).narrow(0, 0, 1)),
        "only an image of 3 channels has these colours, this one has 1"
    );
    assert!(message(&Resize::new(0), image(4, 4)).contains("cannot be resized to [0, 0]"));
    assert!(message(&Normalize::new(&[0.5; 3], &[0.0; 3]), image(4, 4)).contains("deviation of 0"));
    // In a dataset, with the sample's number.
    let images = TensorDataset::new(image(4, 4).unsqueeze(0), Tensor::from_slice(&[1i64])).unwrap();
    let loader = crate::DataLoader::new(images.transform(RandomCrop::new(5)));
    let error = loader.epoch(1, 0).next().unwrap().unwrap_err();
    assert_eq!(error.message(), "sample 0: an image of 4 by 4 has no part of 5 by 5");
}
