//! x
use super::Matrix;
/// x
pub fn page(_: &Matrix<'_>) -> String {
    String::new()
}
