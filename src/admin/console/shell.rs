//! The frame around the pages: brand, navigation, who is logged in.

use crate::admin::AdminState;
use crate::admin::session::Visitor;
use crate::model::Role;

use super::assets;

/// What every page of a visitor shows around its own.
pub(super) struct Shell {
    pub(super) brand: String,
    pub(super) assets: &'static str,
    /// Who is logged in.
    pub(super) person: String,
    /// Whose keys are seen here, in words.
    pub(super) team: String,
    pub(super) role: &'static str,
    pub(super) is_admin: bool,
    pub(super) csrf: String,
    pub(super) page: Page,
}

/// What pages that nobody has to log in for show: the log-in itself, and errors.
pub(super) struct Gate {
    pub(super) brand: String,
    pub(super) assets: &'static str,
}

/// Which entry of the navigation a page belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    ApiKeys,
    Gateways,
    Users,
    LeakedKey,
    Account,
}

/// An entry of the navigation.
pub(super) struct Link {
    pub(super) path: &'static str,
    pub(super) name: &'static str,
    /// A drawing of our own, as SVG.
    pub(super) icon: &'static str,
    pub(super) current: bool,
}

/// A role, for people.
pub(super) fn role_name(role: Role) -> &'static str {
    match role {
        Role::Viewer => "Viewer",
        Role::Editor => "Editor",
        Role::Admin => "Admin",
    }
}

impl Gate {
    pub(super) fn of(brand: &str) -> Gate {
        Gate { brand: brand.to_owned(), assets: assets::folder() }
    }
}

impl Shell {
    pub(super) fn of(state: &AdminState, visitor: &Visitor, page: Page) -> Shell {
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
    pub(super) fn links(&self) -> Vec<Link> {
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
