//! Writes `crds/yaml` and `docs/fields.md`: `cargo run -p belfry-crds --example generate`.

fn main() -> std::io::Result<()> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("yaml");
    for definition in crds::definitions() {
        let yaml = serde_saphyr::to_string(&definition.json).map_err(std::io::Error::other)?;
        std::fs::write(folder.join(definition.file), yaml)?;
    }
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/fields.md");
    std::fs::write(page, crds::field_reference())
}
