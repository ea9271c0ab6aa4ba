//! Of which builds the backends of a group are. Scripts are ordered as they are while all of them are of one; what was
//! ordered so is never run by another.

use super::attach::Build;

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Builds {
    /// By replica, as it was last seen.
    all: Vec<Option<Build>>,
    /// The build of all of them, when they last were of one.
    agreed: Option<String>,
}

impl Builds {
    pub(super) fn new(count: usize) -> Builds {
        Builds { all: vec![None; count], agreed: None }
    }

    /// Enters what a replica is. Are all known now, of one build, and do they order strings alike?
    pub(super) fn meet(&mut self, replica: usize, build: &Build) -> bool {
        self.all[replica] = Some(build.clone());
        let alike = build.bytewise && self.all.iter().all(|other| other.as_ref() == Some(build));
        if alike {
            self.agreed = Some(build.name.clone());
        }
        alike
    }

    /// Is a replica of another build than the scripts were ordered for?
    pub(super) fn is_foreign(&self, replica: usize) -> bool {
        match (&self.agreed, &self.all[replica]) {
            (Some(agreed), Some(build)) => build.name != *agreed,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(name: &str) -> Build {
        Build { name: name.into(), bytewise: true }
    }

    #[test]
    fn scripts_are_for_one_build_that_all_are_known_to_have() {
        let mut builds = Builds::new(2);
        assert!(!builds.meet(0, &build("redis 7.0.15")), "who the other is nobody knows");
        assert!(builds.meet(1, &build("redis 7.0.15")));
        assert!(!builds.meet(1, &build("redis 7.0.16")), "the last number counts");
        assert_eq!((builds.is_foreign(0), builds.is_foreign(1)), (false, true));
        assert!(builds.meet(0, &build("redis 7.0.16")));
        assert_eq!((builds.is_foreign(0), builds.is_foreign(1)), (false, false));
    }

    #[test]
    fn strings_in_a_languages_order_are_no_one_build() {
        let mut builds = Builds::new(1);
        assert!(!builds.meet(0, &Build { bytewise: false, ..build("redis 7.0.15") }));
        assert!(builds.meet(0, &build("redis 7.0.15")));
    }
}
