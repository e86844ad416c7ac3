use super::*;

fn pixels(channels: u32) -> Pixels {
    let bytes = (0..8 * 8 * channels)
        .map(|value| (value * 255 / (64 * channels)) as u8)
        .collect();
    Pixels {
        width: 8,
        height: 8,
        channels,
        bytes,
    }
}

fn figure(content: Content) -> Figure {
    Figure {
        title: "a title".into(),
        x: "across".into(),
        y: "up".into(),
        content,
    }
}

fn contents() -> Vec<Content> {
    let wave = |shift: f64| Series {
        name: format!("wave {shift}"),
        points: (0..200)
            .map(|i| (f64::from(i) * 0.05, (f64::from(i) * 0.05 + shift).sin()))
            .collect(),
    };
    vec![
        Content::Image {
            pixels: pixels(3),
            note: "image 8×8".into(),
        },
        Content::HeatMap {
            pixels: pixels(1),
            low: -1.0,
            high: 2.5,
            note: "[8, 8]".into(),
        },
        Content::Grid {
            images: vec![pixels(1), pixels(3), pixels(1)],
            labels: vec!["3".into(), "4, not 9".into()],
            wrong: vec![false, true],
            note: "3 images".into(),
        },
        Content::Matrix {
            rows: vec![vec![50.0, 2.0, 0.0], vec![4.0, 61.0, 1.0], vec![0.0, 0.0, 7.0]],
            classes: vec!["setosa".into(), "versicolor".into(), "virginica".into()],
        },
        Content::Lines {
            series: vec![wave(0.0), wave(1.0)],
            diagonal: false,
        },
        Content::Lines {
            series: vec![Series {
                name: "AUC 0.875".into(),
                points: vec![(0.0, 0.0), (0.0, 0.5), (0.5, 1.0), (1.0, 1.0)],
            }],
            diagonal: true,
        },
        Content::Scatter {
            series: vec![wave(0.0), wave(2.0)],
        },
        Content::Histogram {
            low: -3.0,
            high: 3.0,
            counts: vec![1, 4, 12, 20, 11, 5, 1],
        },
    ]
}

#[test]
fn each_kind_is_drawn_named_and_on_nothing() {
    for (at, content) in contents().into_iter().enumerate() {
        let figure = figure(content);
        let picture = Picture::new(&figure).unwrap();
        let (svg, png) = (picture.svg(), picture.png());
        assert!(
            svg.contains("a title") && svg.trim_end().ends_with("</svg>"),
            "{at}: {svg}"
        );
        assert!(svg.contains("role=\"img\"") && !svg.contains("<script"), "{at}");
        let image = image::load_from_memory(&png).unwrap().to_rgba8();
        assert_eq!(image.dimensions(), picture.size);
        assert_eq!(image.get_pixel(0, 0)[3], 0, "{at}");
        assert!(image.pixels().filter(|pixel| pixel[3] > 128).count() > 200, "{at}");
        // For those who look at them.
        if let Ok(folder) = std::env::var("LIGHTCELL_TEST_PICTURES") {
            std::fs::write(format!("{folder}/figure-{at}.svg"), &svg).unwrap();
            std::fs::write(format!("{folder}/figure-{at}.png"), &png).unwrap();
        }
    }
}

#[test]
fn pixels_are_where_they_belong_in_their_colours() {
    let mut one = pixels(3);
    one.bytes[..3].copy_from_slice(&[250, 10, 20]);
    let figure = Figure {
        content: Content::Image {
            pixels: one,
            note: String::new(),
        },
        ..Figure::default()
    };
    let picture = Picture::new(&figure).unwrap();
    let image = image::load_from_memory(&picture.png()).unwrap().to_rgba8();
    assert_eq!(image.get_pixel(10, 10).0, [250, 10, 20, 255]);
    assert!(picture.svg().contains("href=\"data:image/png;base64,iVBOR"));
    assert_eq!((warmth(0.0), warmth(1.0)), ([68, 1, 84], [253, 231, 37]));
}

#[test]
fn the_wrong_ones_of_a_grid_have_a_red_frame() {
    let content = |wrong| Content::Grid {
        images: vec![pixels(1); 2],
        labels: vec![String::new(); 2],
        wrong: vec![false, wrong],
        note: String::new(),
    };
    let red = |wrong| {
        let figure = figure(content(wrong));
        let image = image::load_from_memory(&Picture::new(&figure).unwrap().png())
            .unwrap()
            .to_rgba8();
        image.pixels().filter(|pixel| pixel.0 == [214, 69, 65, 255]).count()
    };
    assert_eq!(red(false), 0);
    assert!(red(true) > 200);
}

#[test]
fn nothing_odd_makes_it_panic() {
    let series = |points: Vec<(f64, f64)>| {
        vec![Series {
            name: "<&".into(),
            points,
        }]
    };
    for content in [
        Content::default(),
        Content::Lines {
            series: series(vec![]),
            diagonal: false,
        },
        Content::Scatter {
            series: series(vec![(1.0, 1.0)]),
        },
        Content::Scatter {
            series: series(vec![(0.0, -1e300), (1.0, 1e300)]),
        },
        Content::Histogram {
            low: 1.0,
            high: 1.0,
            counts: vec![3],
        },
        Content::Histogram {
            low: 1.0,
            high: 0.0,
            counts: vec![],
        },
        Content::Matrix {
            rows: vec![],
            classes: vec![],
        },
        Content::Matrix {
            rows: vec![vec![0.0; 50]; 50],
            classes: vec![],
        },
    ] {
        let figure = figure(content);
        let picture = Picture::new(&figure).unwrap();
        assert!(picture.svg().contains("</svg>") && !picture.png().is_empty());
    }
    let short = Pixels {
        width: 8,
        height: 8,
        channels: 1,
        bytes: vec![0; 3],
    };
    let figure = figure(Content::Image {
        pixels: short,
        note: String::new(),
    });
    assert!(Picture::new(&figure).is_none());
}
