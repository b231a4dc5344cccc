//! Which pages an activity has: one for each city that there is.

use super::router::{Router, Site};
use crate::ident::Name;
use crate::page::warm::Target;
use crate::sale::Availability;

/// The pages of an activity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Targets {
    /// The pages.
    pub pages: Vec<Target>,
    /// What the operator should know about them.
    pub note: Option<&'static str>,
}

impl Router {
    /// The pages of an activity: for `cities`, or where none is named for all that are listed. `host` is
    /// for sites without hosts of their own. An error says what is missing.
    pub fn targets(
        &self,
        site: &Name,
        activity: &str,
        cities: &[Name],
        host: Option<&str>,
    ) -> Result<Targets, String> {
        let site = self.site_named(site).ok_or_else(|| format!("there is no site {site}"))?;
        let host = match (&site.canonical, host) {
            (Some(canonical), None) => canonical.as_str(),
            (None, Some(host)) => host,
            (Some(_), Some(_)) => return Err("host: the site has hosts of its own".to_owned()),
            (None, None) => return Err("host: the site takes any: say which".to_owned()),
        };
        site.targets(activity, cities, host)
    }
}

impl Site {
    fn targets(&self, activity: &str, asked: &[Name], host: &str) -> Result<Targets, String> {
        let pattern = self.page().ok_or_else(|| format!("{} has no page route", self.name))?;
        if pattern.has_any() {
            let what = "the page's path has `{_}`, so that its pages cannot be listed";
            return Err(format!("{pattern}: {what}"));
        }
        let known = self.cities.known();
        if let Some(city) = asked.iter().find(|city| !known.is_empty() && !known.contains(*city)) {
            return Err(format!("{city} is not among activity.cities of {}", self.name));
        }
        let has_cities = self.cities.any();
        if !asked.is_empty() && !has_cities {
            return Err(format!("the pages of {} have no city", self.name));
        }
        let named: Vec<&Name> = match asked {
            [] => known.iter().collect(),
            asked => asked.iter().collect(),
        };
        let mut cities: Vec<Option<&str>> = named.iter().map(|city| Some(city.as_str())).collect();
        if asked.is_empty() && !pattern.has_city() {
            cities.insert(0, None);
        }
        let states: &[Option<Availability>] = if self.by_state { &STATES } else { &[None] };
        let page = |(city, state): (Option<&str>, Option<Availability>)| Target {
            site: self.name.clone(),
            host: host.to_owned(),
            path: pattern.path(activity, city).unwrap_or_default(),
            activity: activity.to_owned(),
            city: city.map(str::to_owned),
            state,
        };
        let is_open = has_cities && known.is_empty() && asked.is_empty();
        let note = is_open.then_some(
            "activity.cities lists none, so that only the page without a city is known: name others \
             by --city",
        );
        let each = |city| states.iter().map(move |state| (city, *state));
        Ok(Targets { pages: cities.into_iter().flat_map(each).map(page).collect(), note })
    }
}

/// Every public state: what comes next must be there before it comes.
const STATES: [Option<Availability>; 4] = [
    Some(Availability::NotStarted),
    Some(Availability::Available),
    Some(Availability::SoldOut),
    Some(Availability::Ended),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(activity: &str, cities: &[&str]) -> Result<Vec<(String, Option<String>)>, String> {
        let toml = format!("[shop]\nhosts = [\"shop.example\"]\n[shop.activity]\n{activity}");
        let router = Router::new(&toml::from_str(&toml).unwrap()).unwrap();
        let cities: Vec<Name> = cities.iter().map(|city| Name::new(city).unwrap()).collect();
        let found = router.targets(&Name::new("shop").unwrap(), "7", &cities, None)?;
        Ok(found.pages.into_iter().map(|page| (page.path, page.city)).collect())
    }

    fn page(path: &str, city: Option<&str>) -> (String, Option<String>) {
        (path.to_owned(), city.map(str::to_owned))
    }

    #[test]
    fn every_city_has_a_page_and_so_has_none() {
        let known = "page = \"/a/{activity}\"\ncity = [\"query:c\"]\ncities = [\"sh\", \"bj\"]";
        let (sh, bj) = (page("/a/7", Some("sh")), page("/a/7", Some("bj")));
        assert_eq!(targets(known, &[]), Ok(vec![page("/a/7", None), bj, sh.clone()]));
        assert_eq!(targets(known, &["sh"]), Ok(vec![sh]));
        assert!(targets(known, &["gz"]).is_err());
        let open = "page = \"/a/{activity}\"\ncity = [\"query:c\"]";
        assert_eq!(targets(open, &["gz"]), Ok(vec![page("/a/7", Some("gz"))]));
        let path = "page = \"/{city}/a-{activity}\"\ncity = [\"path\"]\ncities = [\"sh\"]";
        assert_eq!(targets(path, &[]), Ok(vec![page("/sh/a-7", Some("sh"))]));
        let none = "page = \"/a/{activity}\"";
        assert_eq!(targets(none, &[]), Ok(vec![page("/a/7", None)]));
        assert!(targets(none, &["sh"]).is_err());
        assert!(targets("page = \"/{_}/{activity}\"", &[]).is_err());
    }
}
