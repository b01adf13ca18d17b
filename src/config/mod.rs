//! TOML to the settings of each part; problems as data.

pub mod problem;
pub mod settings;

pub use problem::Problem;
pub use settings::Settings;
