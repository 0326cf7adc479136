//! The frame around the pages: brand, navigation, who is logged in.

use crate::admin::AdminState;
use crate::admin::session::Visitor;
use crate::model::Role;

use super::assets;

/// What every page of a visitor shows around its own.
pub(in crate::admin) struct Shell {
    pub(in crate::admin) brand: String,
    pub(in crate::admin) assets: &'static str,
    /// Who is logged in.
    pub(in crate::admin) person: String,
    /// Whose keys are seen here, in words.
    pub(in crate::admin) team: String,
    pub(in crate::admin) role: &'static str,
    pub(in crate::admin) is_admin: bool,
    pub(in crate::admin) csrf: String,
    pub(in crate::admin) page: Page,
}

/// What pages that nobody has to log in for show: the log-in itself, and errors.
pub(in crate::admin) struct Gate {
    pub(in crate::admin) brand: String,
    pub(in crate::admin) assets: &'static str,
}

/// Which entry of the navigation a page belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::admin) enum Page {
    ApiKeys,
    Gateways,
    Users,
    LeakedKey,
    Account,
}

/// An entry of the navigation.
pub(in crate::admin) struct Link {
    pub(in crate::admin) path: &'static str,
    pub(in crate::admin) name: &'static str,
    /// A drawing of our own, as SVG.
    pub(in crate::admin) icon: &'static str,
    pub(in crate::admin) current: bool,
}

/// A role, for people.
pub(in crate::admin) fn role_name(role: Role) -> &'static str {
    match role {
        Role::Viewer => "Viewer",
        Role::Editor => "Editor",
        Role::Admin => "Admin",
    }
}

impl Gate {
    pub(in crate::admin) fn of(brand: &str) -> Gate {
        Gate { brand: brand.to_owned(), assets: assets::folder() }
    }
}

impl Shell {
    pub(in crate::admin) fn of(state: &AdminState, visitor: &Visitor, page: Page) -> Shell {
        Shell {
            brand: state.brand.clone(),
            assets: assets::folder(),
            person: visitor.user.display_name.clone(),
            team: visitor.wall().map_or_else(|| "All teams".to_owned(), |team| format!("Team {team}")),
            role: role_name(visitor.role),
            is_admin: visitor.role >= Role::Admin,
            csrf: visitor.csrf.as_str().to_owned(),
            page,
        }
    }

    /// Where one can go from here.
    pub(in crate::admin) fn links(&self) -> Vec<Link> {
        let link = |page, path, name, icon| Link { path, name, icon, current: self.page == page };
        let mut links = vec![
            link(Page::ApiKeys, "/settings/api-keys", "API Keys", include_str!("assets/icons/key.svg")),
            link(Page::Gateways, "/settings/gateways", "Gateways", include_str!("assets/icons/gateways.svg")),
        ];
        if self.is_admin {
            links.push(link(Page::Users, "/settings/users", "Users", include_str!("assets/icons/users.svg")));
        }
        links.push(link(
            Page::LeakedKey,
            "/settings/leaked-key",
            "Report a leaked key",
            include_str!("assets/icons/leak.svg"),
        ));
        links
    }
}
